//! A text that both engines must give the same tokens before the fast one is used.

use super::Inner;

/// At most so many added tokens are tried; some tokenizers have thousands.
const MAX_ADDED: usize = 300;

/// Scripts, emoji, numbers, code and white space, as they stand in data sets.
const TEXT: &str = "\
You are a helpful assistant. What's the capital of France? It's Paris -- they'll say we've done \
it, I'M SURE!\n\n1. First, 2) second; 3.14159e-10, 1,234,567.89 and 0xDEADBEEF or \
20240726T101112Z.\n\
\tdef fibonacci(n: int) -> int:\n\t\treturn n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)  \n\
    for (let i = 0; i <= arr.length; ++i) { sum += arr[i] * 2; } // done\r\n\r\n\
{\"name\": \"get_weather\", \"arguments\": {\"city\": \"S\u{e3}o Paulo\", \"days\": 5}}\n\
https://example.org/a/b?c=d&e=%20f#g user.name+tag@mail.example snake_case camelCase PascalCase \
SCREAMING_CASE x=1;y=2 ---- ==== **bold** `code` ```rust\nfn main() {}\n```\n\
  two   three    four     five      spaces\u{a0}and\u{2003}wide\u{3000}ones\n\n\n\n   \n\
Gr\u{f6}\u{df}e, na\u{ef}ve caf\u{e9}, \u{c5}ngstr\u{f6}m, \u{141}\u{f3}d\u{17a}, \u{130}stanbul; \
e\u{301}a\u{308}o\u{302}\u{323} \u{1e69}\u{323}\n\
\u{41f}\u{440}\u{438}\u{432}\u{435}\u{442}, \u{43c}\u{438}\u{440}! \
\u{39a}\u{3b1}\u{3bb}\u{3b7}\u{3bc}\u{3ad}\u{3c1}\u{3b1} \u{5e9}\u{5dc}\u{5d5}\u{5dd} \
\u{645}\u{631}\u{62d}\u{628}\u{627}\u{64b} \u{661}\u{662}\u{663} \
\u{928}\u{92e}\u{938}\u{94d}\u{924}\u{947} \u{e2a}\u{e27}\u{e31}\u{e2a}\u{e14}\u{e35} \
\u{4f60}\u{597d}\u{ff0c}\u{4e16}\u{754c}\u{3002} \u{3053}\u{3093}\u{306b}\u{3061}\u{306f} \
\u{30ab}\u{30bf}\u{30ab}\u{30ca}\u{30fc} \u{c548}\u{b155}\u{d558}\u{c138}\u{c694} \
\u{10d2}\u{10d0}\u{1218}\u{122d}\n\
\u{1f389}\u{1f44d}\u{1f3fd} \u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{2764}\u{fe0f} \
\u{1f1e9}\u{1f1ea} \u{bd}\u{b2}\u{2167}\u{2460} \u{20ac}\u{a3}\u{a5}\u{2030} \
\u{2581}\u{2581}x \u{feff}\u{200b}\u{ad}\u{7f}\u{0}\u{1b}[0m \u{e000}\u{10fffd}\u{fffd} \
\u{2028}\u{2029}\u{85}\u{b}\u{c} <0x0A> <unk> <s> \u{120}word \
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa \
DonaudampfschifffahrtsgesellschaftskapitaenspatentantragsformularVerzeichnisEintragNummer\n ";

/// The lines of the text above.
pub fn lines() -> impl Iterator<Item = &'static str> {
    TEXT.split_inclusive('\n')
}

/// The texts to try: the one above, its lines, its words between added tokens, and short ones.
pub fn texts(exact: &Inner) -> Vec<String> {
    let mut added: Vec<(u32, String)> = exact
        .get_added_tokens_decoder()
        .into_iter()
        .map(|(id, token)| (id, token.content))
        .collect();
    added.sort();
    added.truncate(MAX_ADDED);
    let mut lines = TEXT.split_inclusive(' ').cycle();
    let mut between = String::new();
    for (number, (_, content)) in added.iter().enumerate() {
        between.push_str(content);
        // Some stand next to each other, some have text between them.
        lines.by_ref().take(number % 3).for_each(|word| between.push_str(word));
    }
    let mut texts = vec![TEXT.to_owned(), between];
    texts.extend(TEXT.split_inclusive('\n').map(Into::into));
    texts.extend(
        ["", " ", "\n", "a", " a", "a ", "  a", "\u{e9}", "\u{2581}", "\u{1f389}"].map(Into::into),
    );
    texts
}
