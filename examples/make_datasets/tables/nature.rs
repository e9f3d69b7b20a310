//! Chemical elements, animals and planets.

/// What is said about a chemical element.
#[derive(Clone, Copy)]
pub struct Element {
    pub name: &'static str,
    pub symbol: &'static str,
    pub number: u32,
    pub state: &'static str,
    /// Completes "It is used …".
    pub purpose: &'static str,
}

const fn element(
    number: u32,
    symbol: &'static str,
    name: &'static str,
    state: &'static str,
    purpose: &'static str,
) -> Element {
    Element { name, symbol, number, state, purpose }
}

/// Forty chemical elements; the state is the one at room temperature.
pub const ELEMENTS: &[Element] = &[
    element(1, "H", "hydrogen", "gas", "to power fuel cells"),
    element(2, "He", "helium", "gas", "to fill balloons"),
    element(3, "Li", "lithium", "solid", "to make batteries"),
    element(5, "B", "boron", "solid", "to make heat-proof glass"),
    element(6, "C", "carbon", "solid", "to make pencils and filters"),
    element(7, "N", "nitrogen", "gas", "to make fertiliser"),
    element(8, "O", "oxygen", "gas", "to help patients breathe"),
    element(9, "F", "fluorine", "gas", "to make non-stick pans"),
    element(10, "Ne", "neon", "gas", "to make bright red signs"),
    element(11, "Na", "sodium", "solid", "to make yellow street lamps"),
    element(12, "Mg", "magnesium", "solid", "to make light car wheels"),
    element(13, "Al", "aluminium", "solid", "to make cans and aircraft"),
    element(14, "Si", "silicon", "solid", "to make computer chips"),
    element(15, "P", "phosphorus", "solid", "to make matches"),
    element(16, "S", "sulfur", "solid", "to harden rubber"),
    element(17, "Cl", "chlorine", "gas", "to clean swimming pools"),
    element(18, "Ar", "argon", "gas", "to protect hot welds"),
    element(19, "K", "potassium", "solid", "to feed plants"),
    element(20, "Ca", "calcium", "solid", "to make cement and plaster"),
    element(22, "Ti", "titanium", "solid", "to make artificial hips"),
    element(24, "Cr", "chromium", "solid", "to plate taps and bumpers"),
    element(25, "Mn", "manganese", "solid", "to make steel tough"),
    element(26, "Fe", "iron", "solid", "to build bridges and ships"),
    element(27, "Co", "cobalt", "solid", "to colour glass blue"),
    element(28, "Ni", "nickel", "solid", "to make coins"),
    element(29, "Cu", "copper", "solid", "to make electric wires"),
    element(30, "Zn", "zinc", "solid", "to keep steel from rusting"),
    element(31, "Ga", "gallium", "solid", "to make small bright lamps"),
    element(35, "Br", "bromine", "liquid", "to make cloth hard to burn"),
    element(36, "Kr", "krypton", "gas", "to fill double windows"),
    element(47, "Ag", "silver", "solid", "to make mirrors and spoons"),
    element(50, "Sn", "tin", "solid", "to coat food cans"),
    element(53, "I", "iodine", "solid", "to clean wounds"),
    element(54, "Xe", "xenon", "gas", "to light car headlamps"),
    element(74, "W", "tungsten", "solid", "to make drill tips"),
    element(78, "Pt", "platinum", "solid", "to clean car exhaust"),
    element(79, "Au", "gold", "solid", "to make rings and crowns"),
    element(80, "Hg", "mercury", "liquid", "to fill old thermometers"),
    element(82, "Pb", "lead", "solid", "to stop X-rays"),
    element(92, "U", "uranium", "solid", "to run nuclear power stations"),
];

/// What is said about an animal.
#[derive(Clone, Copy)]
pub struct Animal {
    pub name: &'static str,
    pub plural: &'static str,
    pub class: &'static str,
    pub young: &'static str,
    pub food: &'static str,
    /// Completes "It lives …".
    pub home: &'static str,
}

const fn animal(
    [name, plural, class, young]: [&'static str; 4],
    food: &'static str,
    home: &'static str,
) -> Animal {
    Animal { name, plural, class, young, food, home }
}

/// Forty-two animals.
pub const ANIMALS: &[Animal] = &[
    animal(["lion", "lions", "mammal", "cub"], "zebras", "on the plains of Africa"),
    animal(["tiger", "tigers", "mammal", "cub"], "deer", "in the forests of Asia"),
    animal(["brown bear", "brown bears", "mammal", "cub"], "berries and salmon", "in forests"),
    animal(["polar bear", "polar bears", "mammal", "cub"], "seals", "on the Arctic ice"),
    animal(["panda", "pandas", "mammal", "cub"], "bamboo", "in the mountains of China"),
    animal(["wolf", "wolves", "mammal", "pup"], "elk", "in cold northern forests"),
    animal(["fox", "foxes", "mammal", "cub"], "mice and berries", "in a den under the ground"),
    animal(["cat", "cats", "mammal", "kitten"], "mice", "in houses and barns"),
    animal(["dog", "dogs", "mammal", "puppy"], "meat and biscuits", "in people's houses"),
    animal(["horse", "horses", "mammal", "foal"], "grass and oats", "in a stable"),
    animal(["cow", "cows", "mammal", "calf"], "grass", "on a farm"),
    animal(["sheep", "sheep", "mammal", "lamb"], "grass and herbs", "in green meadows"),
    animal(["goat", "goats", "mammal", "kid"], "leaves and twigs", "on rocky hills"),
    animal(["pig", "pigs", "mammal", "piglet"], "roots and corn", "in a sty"),
    animal(["rabbit", "rabbits", "mammal", "kit"], "grass and carrots", "in a burrow"),
    animal(["squirrel", "squirrels", "mammal", "kit"], "nuts", "in hollow trees"),
    animal(["hedgehog", "hedgehogs", "mammal", "hoglet"], "beetles and slugs", "under hedges"),
    animal(["elephant", "elephants", "mammal", "calf"], "leaves and bark", "on the savanna"),
    animal(["giraffe", "giraffes", "mammal", "calf"], "acacia leaves", "among thorn trees"),
    animal(["camel", "camels", "mammal", "calf"], "dry thorny plants", "in the desert"),
    animal(["kangaroo", "kangaroos", "mammal", "joey"], "grass and shoots", "in Australia"),
    animal(["koala", "koalas", "mammal", "joey"], "eucalyptus leaves", "in eucalyptus trees"),
    animal(["bat", "bats", "mammal", "pup"], "moths and fruit", "in caves"),
    animal(["blue whale", "blue whales", "mammal", "calf"], "krill", "in the open ocean"),
    animal(["dolphin", "dolphins", "mammal", "calf"], "fish and squid", "in warm seas"),
    animal(["otter", "otters", "mammal", "pup"], "fish and crabs", "along rivers"),
    animal(["seal", "seals", "mammal", "pup"], "fish", "on rocky coasts"),
    animal(["penguin", "penguins", "bird", "chick"], "krill and fish", "on southern coasts"),
    animal(["owl", "owls", "bird", "owlet"], "mice and voles", "in old trees and barns"),
    animal(["eagle", "eagles", "bird", "eaglet"], "rabbits and fish", "on high cliffs"),
    animal(["duck", "ducks", "bird", "duckling"], "water plants", "on ponds"),
    animal(["swan", "swans", "bird", "cygnet"], "pond weed", "on lakes and slow rivers"),
    animal(["parrot", "parrots", "bird", "chick"], "seeds and fruit", "in tropical forests"),
    animal(["crocodile", "crocodiles", "reptile", "hatchling"], "fish and antelope", "in rivers"),
    animal(["tortoise", "tortoises", "reptile", "hatchling"], "leaves", "on dry warm land"),
    animal(["cobra", "cobras", "reptile", "hatchling"], "rats and frogs", "in warm fields"),
    animal(["frog", "frogs", "amphibian", "tadpole"], "flies", "in ponds and wet grass"),
    animal(["newt", "newts", "amphibian", "larva"], "worms", "in still water"),
    animal(["salmon", "salmon", "fish", "fry"], "shrimp", "in rivers and the sea"),
    animal(["shark", "sharks", "fish", "pup"], "smaller fish", "in the deep sea"),
    animal(["bee", "bees", "insect", "larva"], "nectar and pollen", "in a hive"),
    animal(["butterfly", "butterflies", "insect", "caterpillar"], "nectar", "in gardens"),
];

/// What is said about a planet.
#[derive(Clone, Copy)]
pub struct Planet {
    pub name: &'static str,
    /// "first" for the one nearest to the Sun.
    pub order: &'static str,
    pub kind: &'static str,
    pub note: &'static str,
    pub year: &'static str,
}

const fn planet(
    [name, order, kind]: [&'static str; 3],
    note: &'static str,
    year: &'static str,
) -> Planet {
    Planet { name, order, kind, note, year }
}

/// The eight planets; lengths of the year are rounded.
pub const PLANETS: &[Planet] = &[
    planet(["Mercury", "first", "rocky planet"], "the smallest planet", "88 days"),
    planet(["Venus", "second", "rocky planet"], "the hottest planet", "225 days"),
    planet(["Earth", "third", "rocky planet"], "the only planet with known life", "365 days"),
    planet(["Mars", "fourth", "rocky planet"], "the red planet", "687 days"),
    planet(["Jupiter", "fifth", "gas giant"], "the largest planet", "12 years"),
    planet(["Saturn", "sixth", "gas giant"], "the planet with the brightest rings", "29 years"),
    planet(["Uranus", "seventh", "ice giant"], "the planet that lies on its side", "84 years"),
    planet(["Neptune", "eighth", "ice giant"], "the windiest planet", "165 years"),
];
