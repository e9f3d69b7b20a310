//! What a chat template writes of all conversations with the same roles, but for their contents.
//!
//! Most templates do nothing with contents but write them ([`ChatTemplate::is_verbatim`]). Then
//! one rendering, with a probe in the place of each content, says what stands between the contents
//! of any conversation with these roles, and where in that the assistant's turns begin and end. To
//! put contents between these texts runs none of the template: it needs no process with limits, and
//! takes a hundredth of the time of a rendering.
//!
//! What is put together so is what a rendering would have given, to the byte. Where that is not
//! certain there is no stencil, or it does not fit: then the conversation is rendered.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::formats::Conversation;
use super::handed::{Handed, hand};
use super::mask::{self, Rendered, Turn};
use super::template::{ChatTemplate, is_space};
use crate::files::long_integer;

/// Begins and ends a probe.
const SIGN: char = '\u{f8ff}';
/// White space around a probe, to see whether it is kept.
const SPACE: char = '\u{2003}';
/// Conversations with more messages are too rarely alike.
const MESSAGES_MAX: usize = 32;
/// What is written around contents is not larger, in bytes.
const SCAFFOLD_MAX: usize = 1 << 20;
/// What is longer is left to the template, which has a limit.
const TEXT_MAX: usize = 16 << 20;

/// What all conversations with the same roles have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Outline {
    /// The roles of the messages.
    roles: Vec<String>,
    /// The assistant's messages that are no targets.
    not_targets: BTreeSet<usize>,
    /// Whether the assistant's turns are looked for.
    find_turns: bool,
}

/// A conversation of which nothing but roles and contents is to be written.
#[derive(Debug)]
pub struct Plain<'a> {
    messages: &'a [Value],
    /// Role and content of each message.
    texts: Vec<(&'a str, &'a str)>,
    not_targets: &'a BTreeSet<usize>,
    find_turns: bool,
}

/// What stands around the contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stencil {
    /// What stands before each content, and whether that is written without white space around it.
    before: Vec<(String, bool)>,
    /// What stands behind the last.
    after: String,
    /// The turns that are targets: message, begin, end of what is said, end.
    turns: Vec<(usize, [Mark; 3])>,
    /// Names that the template printed though they were undefined.
    undefined: BTreeSet<String>,
}

/// A place in a text: in what stands before the content of this number, so many bytes from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    piece: usize,
    offset: usize,
}

impl<'a> Plain<'a> {
    /// Looks at a conversation; `None` if it has more than roles and contents, or contents that a
    /// template may be told of in another way than as they are.
    pub fn of(conversation: &'a Conversation, find_turns: bool) -> Option<Self> {
        let Conversation { messages, tools, template_args, not_targets } = conversation;
        if tools.is_some() || !template_args.is_empty() || messages.len() > MESSAGES_MAX {
            return None;
        }
        let mut texts = Vec::with_capacity(messages.len());
        for message in messages {
            let fields = message.as_object().filter(|fields| fields.len() == 2)?;
            let text = |name| fields.get(name).and_then(Value::as_str);
            let role = text("role").filter(|role| !role.contains('\0'))?;
            texts.push((role, text("content").filter(|text| is_plain(text))?));
        }
        Some(Self { messages, texts, not_targets, find_turns })
    }

    /// What it has in common with others, written as one text: to find a stencil by.
    pub fn key(&self) -> String {
        let mut key = String::with_capacity(16 * self.texts.len());
        key.push(if self.find_turns { 'a' } else { 'b' });
        for (index, (role, _)) in self.texts.iter().enumerate() {
            key.push(if self.not_targets.contains(&index) { 'c' } else { 'd' });
            key.push_str(role);
            key.push('\0'); // which no role holds
        }
        key
    }

    /// The same, to have a stencil made of it.
    pub fn outline(&self) -> Outline {
        Outline {
            roles: self.texts.iter().map(|(role, _)| (*role).to_owned()).collect(),
            not_targets: self.not_targets.clone(),
            find_turns: self.find_turns,
        }
    }
}

/// Whether a content is not empty, and is the same to every part of the program that looks at it:
/// no whole number in disguise, and no white space that Python alone takes for that.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && long_integer(text).is_none()
        && !text.bytes().any(|byte| matches!(byte, 0x1c..=0x1f))
}

impl Stencil {
    /// What the template writes around contents; `None` if that depends on them, or may.
    pub fn new(template: &ChatTemplate, outline: &Outline) -> Option<Self> {
        if !template.is_verbatim(&[SIGN, SPACE]) || outline.roles.len() > MESSAGES_MAX {
            return None;
        }
        let message = |(index, role): (usize, &String)| {
            let content = format!("{SPACE}{}{SPACE}", probe(index));
            json!({ "role": role, "content": content })
        };
        let conversation = Conversation {
            messages: outline.roles.iter().enumerate().map(message).collect(),
            not_targets: outline.not_targets.clone(),
            ..Conversation::default()
        };
        let (taken, handed) = hand(template, &conversation, outline.find_turns).ok()?;
        let owned = match outline.find_turns {
            true => mask::by_prefixes(template, &conversation)?,
            false => Vec::new(),
        };
        let turns: Vec<Turn> = owned.iter().map(|(_, turn)| turn.clone()).collect();
        let rendered = Rendered::of_turns(handed.rendered.text.clone(), turns);
        if *taken != conversation || !handed.unused.is_empty() || handed.rendered != rendered {
            return None;
        }
        Self::cut(&rendered.text, outline.roles.len(), &owned, handed.undefined)
    }

    /// Cuts what was written at the probes, of which each must stand in it once.
    fn cut(
        text: &str,
        count: usize,
        owned: &[(usize, Turn)],
        undefined: BTreeSet<String>,
    ) -> Option<Self> {
        let (mut before, mut ranges, mut at) = (Vec::with_capacity(count), Vec::new(), 0);
        for index in 0..count {
            let probe = probe(index);
            let start = at + text.get(at..)?.find(&probe)?;
            let spaced = format!("{SPACE}{probe}{SPACE}");
            let room = start.checked_sub(SPACE.len_utf8()).filter(|start| *start >= at);
            let kept =
                room.filter(|start| text.get(*start..).is_some_and(|it| it.starts_with(&spaced)));
            let (begin, length) = kept.map_or((start, probe.len()), |start| (start, spaced.len()));
            before.push((text.get(at..begin)?.to_owned(), kept.is_none()));
            ranges.push(at..begin);
            at = begin + length;
        }
        ranges.push(at..text.len());
        let after = text.get(at..)?.to_owned();
        let scaffold = before.iter().map(|(text, _)| text).chain([&after]);
        let foreign = |text: &String| text.contains([SIGN, SPACE]);
        if scaffold.clone().any(foreign) || scaffold.map(String::len).sum::<usize>() > SCAFFOLD_MAX
        {
            return None;
        }
        let mark = |at: usize| {
            let piece = ranges.iter().position(|it| it.start <= at && at <= it.end)?;
            Some(Mark { piece, offset: at - ranges[piece].start })
        };
        let marks = |(index, turn): &(usize, Turn)| {
            Some((*index, [mark(turn.said.start)?, mark(turn.said.end)?, mark(turn.end)?]))
        };
        let turns = owned.iter().map(marks).collect::<Option<_>>()?;
        Some(Self { before, after, turns, undefined })
    }

    /// What the template makes of a conversation; `None` if it must be asked itself.
    pub fn fill(&self, plain: &Plain) -> Option<Handed> {
        if self.before.len() != plain.texts.len() {
            return None;
        }
        let most =
            self.before.iter().zip(&plain.texts).map(|((it, _), (_, text))| it.len() + text.len());
        let most = most.sum::<usize>() + self.after.len();
        if most > TEXT_MAX {
            return None;
        }
        let mut text = String::with_capacity(most);
        let mut starts = Vec::with_capacity(self.before.len() + 1);
        for ((before, trimmed), (_, content)) in self.before.iter().zip(&plain.texts) {
            starts.push(text.len());
            text.push_str(before);
            text.push_str(if *trimmed { content.trim_matches(is_space) } else { content });
        }
        starts.push(text.len());
        text.push_str(&self.after);
        let place = |mark: &Mark| Some(starts.get(mark.piece)? + mark.offset);
        let mut owned = Vec::with_capacity(self.turns.len());
        for (message, [start, said, end]) in &self.turns {
            let turn = Turn { said: place(start)?..place(said)?, end: place(end)? };
            // Where the assistant says nothing, a turn is looked for in another way.
            if turn.said.is_empty() {
                return None;
            }
            owned.push((*message, turn));
        }
        if plain.find_turns && mask::has_suspects(plain.messages, &text, &owned) {
            return None;
        }
        let turns = owned.into_iter().map(|(_, turn)| turn).collect();
        let rendered = Rendered::of_turns(text, turns);
        Some(Handed { rendered, unused: Vec::new(), undefined: self.undefined.clone() })
    }
}

fn probe(index: usize) -> String {
    format!("{SIGN}{index}{SIGN}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Texts that a template writes itself, or that make it do something else.
    const TEXTS: [&str; 22] = [
        "yes",
        " no\n",
        "<|im_end|>\n",
        "<|im_start|>assistant\n",
        "<think>",
        "</think>",
        "user",
        "assistant",
        "\u{1f389} gr\u{fc}n",
        "None",
        "0",
        "a b c",
        "\"x\\y\"",
        "{{ m }}",
        "\t",
        " ",
        "INST",
        "[/INST]",
        "\u{f8ff}0\u{f8ff}",
        "\u{2003}",
        "system",
        "end",
    ];

    const TEMPLATES: [&str; 6] = [
        "{%- for m in messages %}{{- '<|im_start|>' + m['role'] + '\\n' + m['content'] + \
         '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\
         \\n' }}{%- endif %}",
        "{{ bos_token }}{% for m in messages %}{% set text = '<|' + m['role'] + '|>\\n\\n' + \
         m['content'] | trim + '<|end|>' %}{% if loop.index0 == 0 %}{% set text = 'A' + text %}\
         {% endif %}{{ text }}{{ nothing }}{% endfor %}{% if add_generation_prompt %}\
         {{ '<|assistant|>\\n\\n' }}{% endif %}",
        "{% if messages[0]['role'] == 'system' %}{{ '<s>' + messages[0].content }}{% set rest = \
         messages[1:] %}{% else %}{% set rest = messages %}{% endif %}{% for m in rest %}\
         {% if m.role == 'user' %}{{ '[INST] ' ~ m.content ~ ' [/INST]' }}{% elif m.content %}\
         {{ m.content ~ ' </s>' }}{% endif %}{% endfor %}",
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}",
        "{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{% if m.role == 'user' %}U{{ m.content }}{% else %}\
         {% generation %}{{ m.content }}{% endgeneration %}{% endif %}{% endfor %}",
    ];

    /// Numbers that are always the same.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, most: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).unwrap() % most
        }

        fn conversation(&mut self) -> Conversation {
            let count = 1 + self.below(5);
            let mut not_targets = BTreeSet::new();
            let mut messages = Vec::new();
            for index in 0..count {
                let role = ["user", "assistant", "system", "user", "assistant"][self.below(5)];
                let content: String =
                    (0..1 + self.below(3)).map(|_| TEXTS[self.below(22)]).collect();
                if role == "assistant" && self.below(6) == 0 {
                    not_targets.insert(index);
                }
                messages.push(json!({ "role": role, "content": content }));
            }
            Conversation { messages, not_targets, ..Conversation::default() }
        }
    }

    #[test]
    fn what_is_put_together_is_what_the_template_writes() {
        let mut filled = [0; 6];
        for (number, source) in TEMPLATES.iter().enumerate() {
            let special = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
            let template = ChatTemplate::new(source, "t", special).unwrap();
            let mut numbers = Numbers(7);
            for round in 0..400 {
                let conversation = numbers.conversation();
                let find_turns = round % 4 != 0;
                let plain = Plain::of(&conversation, find_turns).unwrap();
                let Some(stencil) = Stencil::new(&template, &plain.outline()) else { continue };
                let Some(found) = stencil.fill(&plain) else { continue };
                let (_, expected) = hand(&template, &conversation, find_turns).unwrap();
                assert_eq!(found, expected, "{source}\n{conversation:?}");
                filled[number] += 1;
            }
        }
        assert!(filled[..3].iter().all(|count| *count > 60), "{filled:?}");
        assert_eq!(filled[5], 0, "what is marked is found by rendering");
    }

    #[test]
    fn what_may_be_written_otherwise_is_left_to_the_template() {
        let of = |content: Value| Conversation {
            messages: vec![json!({ "role": "user", "content": content })],
            ..Conversation::default()
        };
        assert!(Plain::of(&of(json!("a")), true).is_some());
        for content in [json!(""), json!(null), json!(["a"]), json!("a\u{1d}")] {
            assert!(Plain::of(&of(content.clone()), true).is_none(), "{content}");
        }
        let mut more = of(json!("a"));
        more.messages[0]["name"] = json!("x");
        assert!(Plain::of(&more, true).is_none());
        let tools = Some(json!([]));
        assert!(Plain::of(&Conversation { tools, ..of(json!("a")) }, true).is_none());
        let (one, other) = (of(json!("a")), of(json!("b")));
        let key = |of: &Conversation, turns| Plain::of(of, turns).unwrap().key();
        assert_eq!(key(&one, true), key(&other, true));
        assert_ne!(key(&one, true), key(&one, false));
        let not_targets = BTreeSet::from([0]);
        assert_ne!(key(&one, true), key(&Conversation { not_targets, ..one.clone() }, true));
    }
}
