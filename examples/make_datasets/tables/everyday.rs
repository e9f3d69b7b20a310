//! Calendar, units, colours, opposites, books, and small words for everyday sentences.

/// A month: name, days (not counting leap years), season in the north.
pub const MONTHS: &[(&str, u32, &str)] = &[
    ("January", 31, "winter"),
    ("February", 28, "winter"),
    ("March", 31, "spring"),
    ("April", 30, "spring"),
    ("May", 31, "spring"),
    ("June", 30, "summer"),
    ("July", 31, "summer"),
    ("August", 31, "summer"),
    ("September", 30, "autumn"),
    ("October", 31, "autumn"),
    ("November", 30, "autumn"),
    ("December", 31, "winter"),
];

/// The days of the week, Monday first.
pub const WEEKDAYS: &[&str] =
    &["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A larger unit, how many of the smaller one it holds, the smaller one in the plural.
pub const UNITS: &[(&str, u32, &str)] = &[
    ("kilometre", 1000, "metres"),
    ("metre", 100, "centimetres"),
    ("centimetre", 10, "millimetres"),
    ("kilogram", 1000, "grams"),
    ("tonne", 1000, "kilograms"),
    ("litre", 1000, "millilitres"),
    ("minute", 60, "seconds"),
    ("hour", 60, "minutes"),
    ("day", 24, "hours"),
    ("week", 7, "days"),
    ("year", 12, "months"),
    ("decade", 10, "years"),
    ("century", 100, "years"),
    ("foot", 12, "inches"),
    ("yard", 3, "feet"),
    ("mile", 1760, "yards"),
    ("pound", 16, "ounces"),
    ("gallon", 8, "pints"),
];

/// Two colours of paint and what they make.
pub const MIXTURES: &[(&str, &str, &str)] = &[
    ("red", "yellow", "orange"),
    ("blue", "yellow", "green"),
    ("red", "blue", "purple"),
    ("red", "white", "pink"),
    ("black", "white", "grey"),
    ("red", "green", "brown"),
];

/// Things in the plural or without number, and their colour.
pub const COLOURS: &[(&str, &str)] = &[
    ("ripe strawberries", "red"),
    ("ripe bananas", "yellow"),
    ("fresh limes", "green"),
    ("ripe carrots", "orange"),
    ("blackboards", "black"),
    ("swans' feathers", "white"),
    ("fire engines", "red"),
    ("sunflowers", "yellow"),
    ("polar bears", "white"),
    ("ravens", "black"),
    ("flamingos", "pink"),
    ("young leaves", "green"),
    ("aubergines", "purple"),
    ("chestnuts", "brown"),
    ("elephants", "grey"),
    ("cornflowers", "blue"),
];

/// A word and its opposite.
pub const OPPOSITES: &[(&str, &str)] = &[
    ("hot", "cold"),
    ("big", "small"),
    ("fast", "slow"),
    ("old", "young"),
    ("high", "low"),
    ("open", "closed"),
    ("early", "late"),
    ("full", "empty"),
    ("hard", "soft"),
    ("heavy", "light"),
    ("loud", "quiet"),
    ("rich", "poor"),
    ("strong", "weak"),
    ("thick", "thin"),
    ("wide", "narrow"),
    ("wet", "dry"),
    ("clean", "dirty"),
    ("deep", "shallow"),
    ("brave", "afraid"),
    ("true", "false"),
    ("near", "far"),
    ("left", "right"),
    ("up", "down"),
    ("inside", "outside"),
    ("before", "after"),
    ("always", "never"),
    ("begin", "end"),
    ("buy", "sell"),
    ("push", "pull"),
    ("win", "lose"),
    ("give", "take"),
    ("remember", "forget"),
    ("love", "hate"),
    ("sharp", "blunt"),
    ("smooth", "rough"),
    ("bitter", "sweet"),
];

/// A book or play and who wrote it.
pub const BOOKS: &[(&str, &str)] = &[
    ("Hamlet", "William Shakespeare"),
    ("Pride and Prejudice", "Jane Austen"),
    ("Oliver Twist", "Charles Dickens"),
    ("Frankenstein", "Mary Shelley"),
    ("Dracula", "Bram Stoker"),
    ("Treasure Island", "Robert Louis Stevenson"),
    ("Robinson Crusoe", "Daniel Defoe"),
    ("Jane Eyre", "Charlotte Bronte"),
    ("Wuthering Heights", "Emily Bronte"),
    ("Moby-Dick", "Herman Melville"),
    ("Don Quixote", "Miguel de Cervantes"),
    ("Faust", "Johann Wolfgang von Goethe"),
    ("War and Peace", "Leo Tolstoy"),
    ("Les Miserables", "Victor Hugo"),
    ("The Divine Comedy", "Dante Alighieri"),
    ("The Time Machine", "H. G. Wells"),
    ("Little Women", "Louisa May Alcott"),
    ("The Jungle Book", "Rudyard Kipling"),
    ("Middlemarch", "George Eliot"),
    ("The Snow Queen", "Hans Christian Andersen"),
];

/// Things sold in shops: one, several.
pub const THINGS: &[(&str, &str)] = &[
    ("lamp", "lamps"),
    ("chair", "chairs"),
    ("pencil", "pencils"),
    ("notebook", "notebooks"),
    ("kettle", "kettles"),
    ("blanket", "blankets"),
    ("candle", "candles"),
    ("teapot", "teapots"),
    ("hammer", "hammers"),
    ("basket", "baskets"),
    ("mirror", "mirrors"),
    ("bucket", "buckets"),
    ("pillow", "pillows"),
    ("ladder", "ladders"),
    ("bicycle", "bicycles"),
    ("scarf", "scarves"),
    ("raincoat", "raincoats"),
    ("umbrella", "umbrellas"),
    ("clock", "clocks"),
    ("bowl", "bowls"),
    ("spoon", "spoons"),
    ("towel", "towels"),
    ("map", "maps"),
    ("drum", "drums"),
    ("violin", "violins"),
    ("tent", "tents"),
    ("rope", "ropes"),
    ("jacket", "jackets"),
    ("shelf", "shelves"),
    ("vase", "vases"),
];

/// Everyday words that somebody may want to translate.
pub const WORDS: &[&str] = &[
    "bread", "water", "apple", "house", "window", "door", "garden", "river", "mountain", "bridge",
    "friend", "school", "teacher", "morning", "evening", "winter", "summer", "snow", "rain",
    "wind", "sun", "moon", "star", "tree", "flower", "butter", "cheese", "milk", "coffee", "tea",
    "ticket", "train", "boat", "street", "market", "letter", "book", "music", "thanks", "welcome",
];
