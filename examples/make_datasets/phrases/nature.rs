//! Sentences about elements, animals and planets.

use super::Topic;

pub const SYMBOL: Topic = Topic {
    name: "symbol",
    state: &[
        "The symbol of {element} is {symbol}.",
        "The chemical symbol for {element} is {symbol}.",
        "Chemists write {symbol} for {element}.",
        "{symbol} stands for {element}.",
        "In formulas, {element} is written {symbol}.",
        "{Element} has the symbol {symbol}.",
        "{symbol} is the symbol of {element}.",
        "On the label of a jar of {element} you read the symbol {symbol}.",
        "The periodic table shows {element} as {symbol}.",
        "A chemist who sees {symbol} thinks of {element}.",
    ],
    follow: &[
        "Its symbol is {symbol}.",
        "Chemists write it {symbol}.",
        "Its chemical symbol is {symbol}.",
        "In formulas it is written {symbol}.",
    ],
    ask: &[
        "What is the symbol of {element}?",
        "What is the chemical symbol for {element}?",
        "How do chemists write {element}?",
        "Which symbol stands for {element}?",
        "Can you tell me the symbol of {element}?",
        "Name the chemical symbol of {element}.",
        "I need the symbol for {element}. What is it?",
    ],
    answer: &["The symbol of {element} is {symbol}.", "It is {symbol}."],
};

pub const SYMBOL_OF: Topic = Topic {
    name: "symbol_of",
    state: &[
        "{symbol} is the symbol of {element}.",
        "The symbol {symbol} means {element}.",
        "{symbol} is short for {element}.",
        "When a formula says {symbol}, it means {element}.",
        "A jar marked {symbol} holds {element}.",
        "In the periodic table, {symbol} is {element}.",
        "The letters on the bottle, {symbol}, stand for {element}.",
        "Whoever reads {symbol} in a chemistry book reads {element}.",
        "The element written {symbol} is {element}.",
        "The sign {symbol} is used for {element}.",
    ],
    follow: &[],
    ask: &[
        "Which element has the symbol {symbol}?",
        "What does the symbol {symbol} stand for?",
        "What element is written {symbol}?",
        "Which element do chemists write as {symbol}?",
        "The jar says {symbol}. Which element is in it?",
    ],
    answer: &["{symbol} is the symbol of {element}."],
};

pub const NUMBER: Topic = Topic {
    name: "number",
    state: &[
        "{Element} has atomic number {number}.",
        "The atomic number of {element} is {number}.",
        "{Element} is element number {number}.",
        "An atom of {element} has {number} protons in its nucleus, so its number is {number}.",
        "Element number {number} is {element}.",
        "In the periodic table, {element} is at place {number}.",
        "Count to {number} in the periodic table and you reach {element}.",
        "The number of {element} in the periodic table is {number}.",
        "Number {number} in the periodic table belongs to {element}.",
        "{Element}, with atomic number {number}, has its own box in the table.",
    ],
    follow: &[
        "Its atomic number is {number}.",
        "It is element number {number}.",
        "It has atomic number {number}.",
        "In the periodic table it is at place {number}.",
    ],
    ask: &[
        "What is the atomic number of {element}?",
        "Which atomic number does {element} have?",
        "What number does {element} have in the periodic table?",
        "Can you tell me the atomic number of {element}?",
        "At which place of the periodic table is {element}?",
        "Name the atomic number of {element}.",
    ],
    answer: &["The atomic number of {element} is {number}.", "It is {number}."],
};

pub const STATE: Topic = Topic {
    name: "state",
    state: &[
        "At room temperature {element} is a {state}.",
        "{Element} is a {state} at room temperature.",
        "In a warm room {element} is a {state}.",
        "Whoever handles {element} handles a {state}.",
        "Under normal conditions {element} is a {state}.",
        "In chemistry lessons {element} counts as a {state}.",
        "Unless it is heated or cooled, {element} is a {state}.",
        "A sample of {element} on a table is a {state}.",
        "Teachers show {element} as a {state}.",
        "On an ordinary day {element} is a {state}.",
    ],
    follow: &[
        "At room temperature it is a {state}.",
        "It is a {state} at room temperature.",
        "In a warm room it is a {state}.",
    ],
    ask: &[
        "Is {element} a solid, a liquid or a gas?",
        "In which state is {element} at room temperature?",
        "What state does {element} have at room temperature?",
        "Is {element} solid, liquid or gas in a warm room?",
        "Tell me whether {element} is a solid, a liquid or a gas.",
    ],
    answer: &["{Element} is a {state} at room temperature.", "It is a {state}."],
};

pub const PURPOSE: Topic = Topic {
    name: "purpose",
    state: &[
        "{Element} is used {purpose}.",
        "People use {element} {purpose}.",
        "Factories use {element} {purpose}.",
        "One use of {element} is well known: it is used {purpose}.",
        "We need {element} {purpose}.",
        "Engineers use {element} {purpose}.",
        "A good deal of {element} is used {purpose}.",
        "You can use {element} {purpose}.",
        "Somebody found out that {element} can be used {purpose}.",
        "Every year people buy {element} {purpose}.",
    ],
    follow: &["It is used {purpose}.", "People use it {purpose}.", "Factories use it {purpose}."],
    ask: &[
        "What is {element} used for?",
        "What do people use {element} for?",
        "Name a use of {element}.",
        "Can you tell me a use of {element}?",
        "Why do factories buy {element}?",
        "What is {element} good for?",
    ],
    answer: &["{Element} is used {purpose}.", "It is used {purpose}."],
};

pub const CLASS: Topic = Topic {
    name: "class",
    state: &[
        "{A animal} is {a class}.",
        "The {animal} is {a class}.",
        "Biologists describe the {animal} as {a class}.",
        "Zoologists say that the {animal} is {a class}.",
        "Every {animal} is {a class}.",
        "If you see {a animal}, you see {a class}.",
        "The {animal} is one example of {a class}.",
        "A child learns early that {a animal} is {a class}.",
        "In the book of animals, the {animal} is listed as {a class}.",
        "What kind of animal is {a animal}? It is {a class}.",
    ],
    follow: &["The {animal} is {a class}.", "This animal is {a class}."],
    ask: &[
        "What kind of animal is {a animal}?",
        "Which class of animals does the {animal} belong to?",
        "Is the {animal} a mammal, a bird, a fish or something else?",
        "To which class does {a animal} belong?",
        "Tell me what kind of animal the {animal} is.",
    ],
    answer: &["{A animal} is {a class}.", "It is {a class}."],
};

pub const FOOD: Topic = Topic {
    name: "food",
    state: &[
        "{Plural} eat {food}.",
        "The food of {plural} is {food}.",
        "{Plural} live on {food}.",
        "{A animal} eats {food}.",
        "A hungry {animal} looks for {food}.",
        "Keepers feed their {plural} with {food}.",
        "What {plural} like best is {food}.",
        "On the menu of {a animal} you find {food}.",
        "{Plural} spend much of the day looking for {food}.",
        "Give {a animal} {food} and it will be content.",
    ],
    follow: &["The {animal} eats {food}.", "The {animal} lives on {food}."],
    ask: &[
        "What do {plural} eat?",
        "What does {a animal} eat?",
        "What is the food of {plural}?",
        "What do {plural} live on?",
        "Can you tell me what {plural} eat?",
        "I want to feed {a animal}. What does it eat?",
    ],
    answer: &["{Plural} eat {food}.", "They eat {food}."],
};

pub const HOME: Topic = Topic {
    name: "home",
    state: &[
        "{Plural} live {home}.",
        "{A animal} lives {home}.",
        "You can find {plural} {home}.",
        "The home of the {animal} is found {home}.",
        "Look for {plural} {home}.",
        "Most {plural} live {home}.",
        "{Plural} feel at home {home}.",
        "{Plural} spend their lives {home}.",
        "Whoever wants to watch {plural} must look {home}.",
        "{Plural} raise their young {home}.",
    ],
    follow: &["The {animal} lives {home}.", "The {animal} feels at home {home}."],
    ask: &[
        "Where do {plural} live?",
        "Where does {a animal} live?",
        "Where can I find {plural}?",
        "Where do {plural} feel at home?",
        "Can you tell me where {plural} live?",
        "Where should I look for {plural}?",
    ],
    answer: &["{Plural} live {home}.", "They live {home}."],
};

pub const YOUNG: Topic = Topic {
    name: "young",
    state: &[
        "A young {animal} is called {a young}.",
        "The young of {a animal} is called {a young}.",
        "A baby {animal} is {a young}.",
        "{A young} is what we call a young {animal}.",
        "The word for a baby {animal} is {young}.",
        "Before it grows up, {a animal} is {a young}.",
        "Every {animal} was {a young} once.",
        "When {a animal} is small, we call it {a young}.",
        "{A animal}'s child is {a young}.",
        "People call the little {animal} {a young}.",
    ],
    follow: &["The young animal is called {a young}.", "A young one is called {a young}."],
    ask: &[
        "What is a young {animal} called?",
        "What do you call a baby {animal}?",
        "What is the word for a young {animal}?",
        "What is the young of {a animal} called?",
        "What do we call a young {animal}?",
    ],
    answer: &["A young {animal} is called {a young}.", "It is called {a young}."],
};

pub const ORDER: Topic = Topic {
    name: "order",
    state: &[
        "{Planet} is the {order} planet from the Sun.",
        "The {order} planet from the Sun is {planet}.",
        "Counted from the Sun, {planet} is the {order} planet.",
        "{Planet} comes {order} when you count from the Sun.",
        "If you travel away from the Sun, the {order} planet you meet is {planet}.",
        "In the row of the planets, {planet} is the {order}.",
        "The {order} place from the Sun belongs to {planet}.",
        "Pupils learn that {planet} is the {order} planet.",
        "In the list of planets, {planet} is the {order} from the Sun.",
        "Look at a chart of the solar system: the {order} planet is {planet}.",
    ],
    follow: &["It is the {order} planet from the Sun.", "Counted from the Sun it is the {order}."],
    ask: &[
        "Which planet from the Sun is {planet}?",
        "Counted from the Sun, which place does {planet} have?",
        "What place does {planet} have among the planets?",
        "Is {planet} near the Sun? Which planet is it, counted from there?",
    ],
    answer: &["{Planet} is the {order} planet from the Sun."],
};

pub const KIND: Topic = Topic {
    name: "kind",
    state: &[
        "{Planet} is {a kind}.",
        "As planets go, {planet} is {a kind}.",
        "Astronomers call {planet} {a kind}.",
        "The planet {planet} is {a kind}.",
        "{Planet} is a good example of {a kind}.",
        "{Planet} belongs to a group: it is {a kind}.",
        "Through a telescope we study {planet}, {a kind}.",
        "{Planet}, like some of its neighbours, is {a kind}.",
        "Books on the sky describe {planet} as {a kind}.",
        "Space probes showed that {planet} is {a kind}.",
    ],
    follow: &["It is {a kind}.", "Astronomers call it {a kind}."],
    ask: &[
        "What kind of planet is {planet}?",
        "Is {planet} a rocky planet or a giant?",
        "How do astronomers classify {planet}?",
        "Tell me what kind of planet {planet} is.",
    ],
    answer: &["{Planet} is {a kind}."],
};

pub const NOTE: Topic = Topic {
    name: "note",
    state: &[
        "{Planet} is {note}.",
        "{Note} is {planet}.",
        "Everybody knows {planet} as {note}.",
        "They call {planet} {note}.",
        "Of all eight, {planet} is {note}.",
        "Remember {planet} as {note}.",
        "A poster of {planet} says: {note}.",
        "Astronomers tell us that {planet} is {note}.",
        "If you read of {note}, it is {planet}.",
        "Among the planets {planet} stands out: it is {note}.",
    ],
    follow: &["It is {note}.", "People know it as {note}."],
    ask: &[
        "What is special about {planet}?",
        "What is {planet} known as?",
        "Tell me something about {planet}.",
        "Why is {planet} special?",
    ],
    answer: &["{Planet} is {note}."],
};

pub const YEAR: Topic = Topic {
    name: "year",
    state: &[
        "A year on {planet} lasts about {year}.",
        "{Planet} goes around the Sun in about {year}.",
        "One trip of {planet} around the Sun takes about {year}.",
        "The year of {planet} is about {year} long.",
        "{Planet} needs about {year} for one orbit.",
        "On {planet} you would wait about {year} for your birthday to come again.",
        "It takes {planet} about {year} to circle the Sun.",
        "An orbit of {planet} lasts about {year}.",
        "Calendars for {planet} would cover about {year}.",
        "After about {year}, {planet} has gone around the Sun once.",
    ],
    follow: &["Its year lasts about {year}.", "It goes around the Sun in about {year}."],
    ask: &[
        "How long is a year on {planet}?",
        "How long does {planet} need to go around the Sun?",
        "How long does one orbit of {planet} take?",
        "What is the length of a year on {planet}?",
    ],
    answer: &["A year on {planet} lasts about {year}."],
};
