//! Sentences about invented people, orders and appointments, and the requests a program can serve.

/// A record that is told in words and written as JSON.
pub struct RecordForm {
    pub name: &'static str,
    /// The keys, as one says them.
    pub keys: &'static str,
    pub tell: &'static [&'static str],
}

pub const PERSON: RecordForm = RecordForm {
    name: "person",
    keys: "name, age and city",
    tell: &[
        "{name} is {age} years old and lives in {city}.",
        "{name}, {age}, lives in {city}.",
        "{name} from {city} is {age} years old.",
        "In {city} lives {name}, who is {age} years old.",
        "My friend {name} lives in {city} and turned {age} last week.",
        "At the age of {age}, {name} lives in {city}.",
        "The winner is {name}, aged {age}, from {city}.",
        "Our new neighbour is called {name}; {he} is {age} and grew up in {city}.",
        "{name} works in {city} and has just had {his} birthday: {he} is {age} now.",
        "I met {name} in {city}, where {he} lives. {He} is {age}.",
        "The ticket is for {name} of {city}, {age} years old.",
        "Yesterday {name} came to us from {city}; {he} is {age} years old.",
        "A letter came from {city}. It was from {name}, who is {age}.",
        "{age} years old and still full of plans: that is {name} from {city}.",
    ],
};

pub const ORDER: RecordForm = RecordForm {
    name: "order",
    keys: "item, count and price",
    tell: &[
        "{name} buys {count} {item} for {price} euros each.",
        "Please send {count} {item} at {price} euros each.",
        "We need {count} {item}; each costs {price} euros.",
        "{count} {item} were ordered at a price of {price} euros each.",
        "The customer wants {count} {item} and pays {price} euros for each.",
        "There are {count} {item} on the list. One costs {price} euros.",
        "{name} took {count} {item} from the shelf, {price} euros each.",
        "Put {count} {item} into the box. The price of one is {price} euros.",
        "For the school we order {count} {item}, {price} euros each.",
        "The bill says: {count} {item}, {price} euros each.",
    ],
};

pub const APPOINTMENT: RecordForm = RecordForm {
    name: "appointment",
    keys: "with, day and time",
    tell: &[
        "I will meet {name} on {day} at {time}.",
        "{name} comes to the office on {day} at {time}.",
        "On {day} at {time} there is a talk with {name}.",
        "Please write down: {day}, {time}, {name}.",
        "The appointment with {name} is on {day} at {time}.",
        "{name} can see us on {day}, and {time} suits {him} best.",
        "We have moved the meeting with {name} to {day} at {time}.",
        "Do not forget to call {name} on {day} at {time}.",
        "At {time} on {day} I have lunch with {name}.",
        "The train of {name} arrives on {day} at {time}.",
    ],
};

/// How the corpus leads from words to JSON.
pub const TO_JSON: &[&str] = &[
    "{tell} As JSON: {json}",
    "{tell} In the file this is {json}",
    "{tell} The record reads {json}",
    "{tell} Stored as {json}",
    "{tell}\n{json}",
    "Entry: {json} It means: {tell}",
    "{json}\nIn words: {tell}",
    "The line {json} says: {tell}",
    "{tell} The clerk typed {json}",
    "{tell} JSON: {json}",
    "{tell} <json>{json}</json>",
];

/// How the chat asks for JSON.
pub const ASK_JSON: &[&str] = &[
    "Give the {form} as JSON: {tell}",
    "Turn this {form} into JSON with {keys}: {tell}",
    "Extract {keys} as JSON. {tell}",
    "{tell} Write this {form} as JSON.",
    "Make a JSON object of this {form}: {tell}",
    "I need the {form} in JSON. {tell}",
    "Read this and reply with JSON for the {form}: {tell}",
    "{tell} Please answer with {keys} in JSON.",
    "{Form} to JSON: {tell}",
    "Convert the following {form} to JSON. {tell}",
    "What is the JSON for this {form}? {tell}",
    "Here is {a form}: {tell} Return JSON.",
];

/// A request that a program can serve.
pub struct Tool {
    pub name: &'static str,
    /// What the corpus says about a request.
    pub tell: &'static [&'static str],
    /// What a person asks in the chat.
    pub ask: &'static [&'static str],
}

pub const WEATHER: Tool = Tool {
    name: "weather",
    tell: &[
        "{first} wants to know the weather in {city}.",
        "Somebody asks about the weather in {city}.",
        "The next question is about the weather in {city}.",
        "{first} is going to {city} and asks for the weather there.",
        "A user would like the weather for {city}.",
    ],
    ask: &[
        "What is the weather in {city}?",
        "How is the weather in {city} today?",
        "Do I need an umbrella in {city}?",
        "Is it raining in {city}?",
        "Tell me the weather in {city}.",
        "Please check the weather for {city}.",
        "I am flying to {city} tomorrow. What will the weather be like?",
        "Will it be sunny in {city}?",
        "Weather in {city}, please.",
        "How cold is it in {city}?",
        "Should I take a coat to {city}?",
        "Is there snow in {city} at the moment?",
    ],
};

pub const TIME: Tool = Tool {
    name: "time",
    tell: &[
        "{first} wants to know the time in {city}.",
        "Somebody asks what time it is in {city}.",
        "The next question is about the time in {city}.",
        "{first} has a friend in {city} and asks for the time there.",
        "A visitor would like the local time of {city}.",
    ],
    ask: &[
        "What time is it in {city}?",
        "Tell me the time in {city}.",
        "How late is it in {city} now?",
        "What does the clock say in {city}?",
        "I want to call a friend in {city}. What time is it there?",
        "Is it already night in {city}?",
        "Please look up the time in {city}.",
        "What is the local time in {city}?",
        "Show me the current time for {city}.",
        "The time in {city}, please.",
    ],
};

pub const CONVERT: Tool = Tool {
    name: "convert",
    tell: &[
        "{first} wants {amount} {from} in {to}.",
        "Somebody asks for {amount} {from} in {to}.",
        "The next task is to turn {amount} {from} into {to}.",
        "{first} has {amount} {from} and needs the number in {to}.",
        "A user would like to convert {amount} {from} to {to}.",
    ],
    ask: &[
        "Convert {amount} {from} to {to}.",
        "How many {to} are {amount} {from}?",
        "What is {amount} {from} in {to}?",
        "Please turn {amount} {from} into {to}.",
        "I have {amount} {from}. How much is that in {to}?",
        "{amount} {from} in {to}, please.",
        "Express {amount} {from} in {to}.",
        "The sign says {amount} {from}. What is that in {to}?",
        "Can you convert {amount} {from} into {to}?",
        "I need {amount} {from} as {to}.",
    ],
};

pub const TRANSLATE: Tool = Tool {
    name: "translate",
    tell: &[
        "{first} wants the word {word} in {language}.",
        "Somebody asks how to say {word} in {language}.",
        "The next task is to translate {word} into {language}.",
        "{first} learns {language} and asks for the word {word}.",
        "A visitor would like to know {word} in {language}.",
    ],
    ask: &[
        "How do you say {word} in {language}?",
        "Translate {word} into {language}.",
        "What is the {language} word for {word}?",
        "Please translate the word {word} into {language}.",
        "I need the word {word} in {language}.",
        "What is {word} called in {language}?",
        "Can you translate {word} to {language}?",
        "How do people say {word} when they speak {language}?",
    ],
};

/// Units between which the conversion tool is asked to convert.
pub const CONVERSIONS: &[(&str, &str)] = &[
    ("miles", "kilometres"),
    ("kilometres", "miles"),
    ("feet", "metres"),
    ("metres", "feet"),
    ("inches", "centimetres"),
    ("centimetres", "inches"),
    ("pounds", "kilograms"),
    ("kilograms", "pounds"),
    ("ounces", "grams"),
    ("litres", "gallons"),
    ("gallons", "litres"),
    ("pints", "litres"),
    ("hours", "minutes"),
    ("euros", "dollars"),
    ("dollars", "yen"),
];

/// How the corpus reports what was sent for a request.
pub const SENT: &[&str] = &[
    "The program sends {json}",
    "This request is written {json}",
    "The clerk types {json}",
    "In the log it says {json}",
    "So the line to send is {json}",
    "Sent: {json}",
    "<tool_call>{json}</tool_call>",
    "The line is <tool_call>{json}</tool_call>",
];
