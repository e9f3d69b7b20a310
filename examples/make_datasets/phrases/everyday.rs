//! Sentences about the calendar, units, colours, words, books and work.

use super::Topic;

pub const DAYS: Topic = Topic {
    name: "days",
    state: &[
        "{Month} has {days} days.",
        "There are {days} days in {month}.",
        "The month of {month} lasts {days} days.",
        "{Month} is {days} days long.",
        "Count the days of {month} and you get {days}.",
        "On the calendar, {month} fills {days} boxes.",
        "Rent for {month} is paid for {days} days.",
        "{Month} ends after {days} days.",
        "The last day of {month} is number {days}.",
        "A diary for {month} needs {days} pages.",
    ],
    follow: &["It has {days} days.", "It lasts {days} days.", "It is {days} days long."],
    ask: &[
        "How many days does {month} have?",
        "How many days are there in {month}?",
        "How long is {month}?",
        "What is the number of days in {month}?",
        "Can you tell me how many days {month} has?",
    ],
    answer: &["{Month} has {days} days.", "It has {days} days."],
};

pub const SEASON: Topic = Topic {
    name: "season",
    state: &[
        "In the north, {month} belongs to {season}.",
        "North of the equator, {month} is a month of {season}.",
        "{Month} is part of {season} in the northern half of the world.",
        "In Europe {month} falls in {season}.",
        "For people in the north, {month} means {season}.",
        "A painter in Paris would paint {month} in the colours of {season}.",
        "In Norway {month} is a month of {season}.",
        "Northern calendars place {month} in {season}.",
        "When it is {month} in the north, it is {season}.",
        "{Season} in the north takes in {month}.",
    ],
    follow: &["In the north it belongs to {season}.", "In Europe it falls in {season}."],
    ask: &[
        "In which season is {month} in the north?",
        "Which season does {month} belong to in Europe?",
        "What season is it in the north in {month}?",
        "Is {month} in winter, spring, summer or autumn, in the north?",
    ],
    answer: &["In the north, {month} belongs to {season}."],
};

pub const MONTH_AFTER: Topic = Topic {
    name: "month_after",
    state: &[
        "After {month} comes {next}.",
        "{Next} follows {month}.",
        "The month after {month} is {next}.",
        "When {month} ends, {next} begins.",
        "{Month} is followed by {next}.",
        "Turn the page of {month} and you see {next}.",
        "{Month} gives way to {next}.",
        "The day after the last of {month} is the first of {next}.",
        "{Month} comes just before {next}.",
        "Once {month} is over, it is {next}.",
    ],
    follow: &["After it comes {next}.", "It is followed by {next}."],
    ask: &[
        "Which month comes after {month}?",
        "What month follows {month}?",
        "Which month is next after {month}?",
        "Name the month after {month}.",
    ],
    answer: &["After {month} comes {next}."],
};

pub const DAY_AFTER: Topic = Topic {
    name: "day_after",
    state: &[
        "After {day} comes {next}.",
        "{Next} follows {day}.",
        "The day after {day} is {next}.",
        "If today is {day}, tomorrow is {next}.",
        "{Day} is followed by {next}.",
        "Go to sleep on {day} and you wake up on {next}.",
        "The night of {day} ends with the morning of {next}.",
        "{Day} comes just before {next}.",
        "If yesterday was {day}, today is {next}.",
        "Once {day} is over, it is {next}.",
    ],
    follow: &[],
    ask: &[
        "Which day comes after {day}?",
        "Today is {day}. What day is tomorrow?",
        "What day follows {day}?",
        "Name the day after {day}.",
        "Yesterday was {day}. What day is it today?",
    ],
    answer: &["After {day} comes {next}."],
};

pub const UNIT: Topic = Topic {
    name: "unit",
    state: &[
        "{A large} has {count} {small}.",
        "There are {count} {small} in {a large}.",
        "One {large} is {count} {small}.",
        "{A large} is the same as {count} {small}.",
        "It takes {count} {small} to make {a large}.",
        "Put {count} {small} together and you have {a large}.",
        "{A large} equals {count} {small}.",
        "{A large} may be counted as {count} {small}.",
        "If you have {count} {small}, you have {a large}.",
        "The word {large} means {count} {small}.",
    ],
    follow: &[],
    ask: &[
        "How many {small} are there in {a large}?",
        "How many {small} does {a large} have?",
        "How many {small} make {a large}?",
        "What is {a large} in {small}?",
        "Can you tell me how many {small} {a large} has?",
    ],
    answer: &["{A large} has {count} {small}."],
};

pub const MIXTURE: Topic = Topic {
    name: "mixture",
    state: &[
        "{First} and {second} make {result}.",
        "Mix {first} with {second} and you get {result}.",
        "{Result} is made from {first} and {second}.",
        "A painter who stirs {first} into {second} gets {result}.",
        "{First} paint and {second} paint give {result} paint.",
        "To make {result}, mix {first} and {second}.",
        "If you have {first} and {second}, you can make {result}.",
        "Where {first} runs into {second}, the paper turns {result}.",
        "Children learn that {first} and {second} become {result}.",
        "You need {first} and {second} for {result}.",
    ],
    follow: &[],
    ask: &[
        "What do {first} and {second} make?",
        "Which colour do I get from {first} and {second}?",
        "I mix {first} and {second} paint. Which colour is it?",
        "What colour is a mixture of {first} and {second}?",
    ],
    answer: &["{First} and {second} make {result}."],
};

pub const COLOUR: Topic = Topic {
    name: "colour",
    state: &[
        "{Thing} are {colour}.",
        "The colour of {thing} is {colour}.",
        "Children paint {thing} in {colour}.",
        "Think of {thing}: they are {colour}.",
        "Everybody knows that {thing} are {colour}.",
        "{Thing} have a {colour} look.",
        "To draw {thing}, take the {colour} pencil.",
        "As {colour} as {thing}, people say.",
        "In the picture book {thing} are {colour}.",
        "Seen from afar, {thing} are {colour}.",
    ],
    follow: &[],
    ask: &[
        "What colour are {thing}?",
        "Which colour do {thing} have?",
        "What is the colour of {thing}?",
        "Which pencil do I need to draw {thing}?",
    ],
    answer: &["{Thing} are {colour}."],
};

pub const OPPOSITE: Topic = Topic {
    name: "opposite",
    state: &[
        "The opposite of {word} is {other}.",
        "{Word} is the opposite of {other}.",
        "{Word} and {other} are opposites.",
        "What is not {word} may be {other}.",
        "The contrary of {word} is {other}.",
        "The words {word} and {other} mean opposite things.",
        "Where one says {word}, the other says {other}.",
        "In the word game, {word} is paired with {other}.",
        "{Other} is the opposite of {word}.",
        "Between {word} and {other} there is a great difference.",
    ],
    follow: &[],
    ask: &[
        "What is the opposite of {word}?",
        "Which word is the opposite of {word}?",
        "Tell me the opposite of {word}.",
        "Name the opposite of the word {word}.",
        "I need a word that means the contrary of {word}.",
    ],
    answer: &["The opposite of {word} is {other}."],
};

pub const AUTHOR: Topic = Topic {
    name: "author",
    state: &[
        "{book} was written by {author}.",
        "{author} wrote {book}.",
        "The author of {book} is {author}.",
        "{author} is the author of {book}.",
        "We owe {book} to {author}.",
        "{book} came from the pen of {author}.",
        "On the cover of {book} stands the name {author}.",
        "In the library, {book} is kept under {author}.",
        "Readers of {book} admire {author}.",
        "{author} became famous with {book}.",
    ],
    follow: &[],
    ask: &[
        "Who wrote {book}?",
        "Who is the author of {book}?",
        "Can you tell me who wrote {book}?",
        "Which writer gave us {book}?",
        "Name the author of {book}.",
        "By whom is {book}?",
    ],
    answer: &["{book} was written by {author}."],
};

pub const WORK: Topic = Topic {
    name: "work",
    state: &[
        "{A job} {does}.",
        "The {job} {does}.",
        "Every day the {job} {does}.",
        "It is the {job} who {does}.",
        "What is {a job}? Somebody who {does}.",
        "{A job} is a person who {does}.",
        "A good {job} {does} with care.",
        "From Monday to Friday the {job} {does}.",
        "Ask at the job centre what {a job} does: {a job} {does}.",
        "If somebody {does}, it is {a job}.",
    ],
    follow: &[],
    ask: &[
        "What does {a job} do?",
        "What is the work of {a job}?",
        "Can you tell me what {a job} does?",
        "How does {a job} spend the day?",
        "What is {a job}?",
    ],
    answer: &["{A job} {does}."],
};

pub const WORKPLACE: Topic = Topic {
    name: "workplace",
    state: &[
        "{A job} works {place}.",
        "You meet the {job} {place}.",
        "{Place} you find {a job}.",
        "Most days begin for {a job} {place}.",
        "{A job} spends the day {place}.",
        "{Place} there is work for {a job}.",
        "Look for the {job} {place}.",
        "The {job} is at work {place} from eight in the morning.",
        "Where is the {job}? The {job} works {place}.",
        "Somebody who works {place} may be {a job}.",
    ],
    follow: &[],
    ask: &[
        "Where does {a job} work?",
        "Where can I meet {a job}?",
        "Where does {a job} spend the day?",
        "Where should I look for {a job}?",
    ],
    answer: &["{A job} works {place}."],
};

pub const SUM: Topic = Topic {
    name: "sum",
    state: &[
        "{first} + {second} = {result}.",
        "{first} plus {second} is {result}.",
        "If you add {second} to {first}, you get {result}.",
        "The sum of {first} and {second} is {result}.",
        "{first} and {second} together make {result}.",
        "Add {first} and {second}: the result is {result}.",
        "Start with {first}, add {second}, and you have {result}.",
        "{result} is {first} plus {second}.",
        "Counting {second} on from {first} leads to {result}.",
        "From {first} it is {second} steps up to {result}.",
    ],
    follow: &[],
    ask: &[
        "What is {first} plus {second}?",
        "How much is {first} + {second}?",
        "What is the sum of {first} and {second}?",
        "Add {first} and {second}.",
        "What do {first} and {second} make together?",
    ],
    answer: &["{first} plus {second} is {result}."],
};

pub const DIFFERENCE: Topic = Topic {
    name: "difference",
    state: &[
        "{first} - {second} = {result}.",
        "{first} minus {second} is {result}.",
        "If you take {second} from {first}, {result} is left.",
        "The difference of {first} and {second} is {result}.",
        "Take {second} away from {first} and you have {result}.",
        "{first} less {second} gives {result}.",
        "From {first} down to {result} it is {second}.",
        "{result} is {first} minus {second}.",
        "Counting {second} back from {first} leads to {result}.",
        "Of {first} eggs {second} broke; {result} were left.",
    ],
    follow: &[],
    ask: &[
        "What is {first} minus {second}?",
        "How much is {first} - {second}?",
        "Take {second} from {first}. What is left?",
        "What is the difference of {first} and {second}?",
    ],
    answer: &["{first} minus {second} is {result}."],
};

pub const PRODUCT: Topic = Topic {
    name: "product",
    state: &[
        "{first} x {second} = {result}.",
        "{first} times {second} is {result}.",
        "Multiply {first} by {second} and you get {result}.",
        "The product of {first} and {second} is {result}.",
        "{first} rows of {second} trees are {result} trees.",
        "{first} boxes with {second} eggs each hold {result} eggs.",
        "{result} is {first} times {second}.",
        "In the times table, {first} and {second} meet at {result}.",
        "If {first} friends bring {second} apples each, there are {result} apples.",
        "{first} weeks with {second} lessons each make {result} lessons.",
    ],
    follow: &[],
    ask: &[
        "What is {first} times {second}?",
        "How much is {first} x {second}?",
        "What is the product of {first} and {second}?",
        "Multiply {first} by {second}.",
    ],
    answer: &["{first} times {second} is {result}."],
};
