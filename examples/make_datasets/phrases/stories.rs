//! Pieces of stories, letters, dialogues and diaries about invented people.

/// How a story begins.
pub const OPENINGS: &[&str] = &[
    "{name} lives in {city} and is {age} years old.",
    "In a narrow street in {city} lives {name}, {a job}.",
    "Once there was {a job} in {city} whose name was {name}.",
    "{name} is {a job}. {He} lives in {city}.",
    "Everybody in the street knows {name}, the {job}.",
    "When {name} came to {city}, {he} knew nobody there.",
    "This is the story of {name}, {a job} from {city}.",
    "Early in the morning, long before the buses run, {name} leaves the house.",
    "{name} was {age} when this happened.",
    "There are many people in {city}, but only one {name}.",
    "For many years {name} has been {a job} in {city}.",
    "If you ever come to {city}, ask for {name}.",
];

/// What the person does all day.
pub const DAYS: &[&str] = &[
    "Every day {he} {does}.",
    "{He} works {place}, where {he} {does}.",
    "As {a job}, {first} {does}.",
    "{His} work is simple to explain: {he} {does}.",
    "At eight {he} is {place} and {does}.",
    "{first} {does}, and {he} likes it.",
    "People say that nobody {does} as {first} does.",
    "{His} father was {a job} too, and so {first} {does}.",
    "In the evening {he} likes {hobby}.",
    "After work {first} likes {hobby}.",
    "On Sundays {he} likes {hobby} with a friend.",
    "{His} great pleasure is {hobby}.",
];

/// What happened one day.
pub const EVENTS: &[&str] = &[
    "One day {he} found a purse on the stairs, with {count} coins in it and a name: {other}.",
    "On {day} a letter came from {other}. It was short: \"Come at once. I need {a thing}.\"",
    "Last week {first} bought {count} {things} for {price} euros and gave one of them to {other}.",
    "It rained for {count} days. On the last of them {other} knocked at the door.",
    "On {day} at {time} the lights went out, and {first} met {other} in the dark hall.",
    "{first} wanted {a thing}. The shop asked {price} euros for it, so {he} went to see {other}.",
    "At {time} the telephone rang. It was {other}, who had lost {a thing}.",
    "{other} had promised to come on {day}, but the train was late by {count} minutes.",
    "A dog ran across the street with {a thing} in its mouth, and {other} ran after the dog.",
    "In the market {other} sold {things}. {first} took {count} of them and paid {price} euros.",
    "On {day} {first} and {other} missed the bus and walked home in {count} minutes.",
    "When {first} opened the cupboard, there was {a thing} in it that belonged to {other}.",
];

/// What leads from the event to something learnt.
pub const LEADS: &[&str] = &[
    "While they waited, {other} told {him} this:",
    "On the wall hung an old school poster. It said:",
    "{first} opened a book and read aloud:",
    "On the radio somebody explained:",
    "\"Did you know this?\" said {other}, and began:",
    "In the newspaper {he} read a page for children:",
    "{His} teacher used to say:",
    "In the evening {he} wrote in a notebook:",
];

/// How a story ends.
pub const ENDINGS: &[&str] = &[
    "That was all, and {first} went home content.",
    "They laughed about it for a long time.",
    "Since that day {first} and {other} have been friends.",
    "{first} never forgot it.",
    "Then it was late, and {he} went to bed.",
    "{other} said thank you and closed the door.",
    "The next morning everything was as before.",
    "\"We should do this again,\" said {other}.",
    "And so the day ended better than it had begun.",
    "{first} still tells this story to every visitor.",
    "Outside it had begun to snow.",
    "After that, {first} always carried {a thing} in {his} bag.",
];

/// What a traveller writes about the place.
pub const GREETINGS: &[&str] = &[
    "I am writing to you from {capital}, the capital of {country}.",
    "Greetings from {capital}! It is my first week in {country}.",
    "At last I have reached {country}. My hotel is in {capital}, the capital.",
    "You asked how I like {country}. I like it very much.",
    "The train brought me to {capital}, and I shall stay in {country} until {day}.",
    "Here I am in {country}, and I have much to tell you.",
];

/// What a traveller writes about the days.
pub const TRAVELS: &[&str] = &[
    "Yesterday I bought {count} {things} and paid {price} for all of them.",
    "It is {degrees} degrees and the sky is {sky}.",
    "In the hotel I met {other}, {a job}, who comes from {city}.",
    "I walk for {count} minutes every morning before the streets fill.",
    "On {day} at {time} I shall take a boat along the coast.",
    "A guide called {other} showed us the old town.",
    "My room has {count} steps up to it, and a view of the roofs.",
    "Could you please send me {a thing}? Mine is broken.",
];

/// How a letter ends.
pub const FAREWELLS: &[&str] = &[
    "With love,\n{first}",
    "Your friend\n{first}",
    "Best wishes from\n{name}",
    "See you on {day}!\n{first}",
    "Write soon.\n{first}",
    "Yours,\n{name}",
];

/// How a diary tells of a day.
pub const DIARY: &[&str] = &[
    "Got up at {time}. It was {degrees} degrees and {sky}.",
    "Met {other} in {city}. We talked about {things}.",
    "Bought {count} {things} for {price} euros each; that is enough for a year.",
    "Worked from morning to night. {A job} {does}; that never ends.",
    "{other} called at {time}. It was about {a thing}.",
    "Stayed at home and had time {hobby}.",
    "Lost my {thing} and found it again under the bed.",
    "Paid {price} euros for {a thing}. Too much!",
    "Walked with {other} for {count} minutes along the river.",
    "Nothing happened today, and that was good.",
];

/// How a question is put in a dialogue; then how it is answered.
pub const EXCHANGES: &[(&str, &str)] = &[
    ("\"{ask}\" asked {first}.", "\"{answer},\" said {friend}."),
    ("\"{ask}\" {first} wanted to know.", "\"{answer},\" {friend} replied."),
    ("{first} asked: \"{ask}\"", "{friend} answered: \"{answer}.\""),
    ("{first}: {ask}", "{friend}: {answer}."),
    ("\"Help me,\" said {first}. \"{ask}\"", "\"That is easy,\" said {friend}. \"{answer}.\""),
    ("\"Next,\" said {first}. \"{ask}\"", "{friend} thought for a moment. \"{answer}.\""),
];

/// Where a dialogue takes place.
pub const SCENES: &[&str] = &[
    "{first} and {friend} sat in the kitchen with a quiz book.",
    "On the train to {city}, {first} had a list of questions for {friend}.",
    "{first} had an examination on {day}, and {friend} helped.",
    "It rained in {city}, so {first} and {friend} played at questions and answers.",
    "{friend} works {place} and knows many things. {first} came to ask.",
    "At {time} the lesson began. {first} asked, {friend} answered.",
];
