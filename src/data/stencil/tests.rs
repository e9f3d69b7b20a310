//! What is put together from stencils is what templates write.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::make::probe;
use super::*;
use crate::data::handed::hand;
use crate::data::template::{ChatTemplate, Given, Hole, Shape, Trace};

/// Conversations for each of the styles.
const ROUNDS: usize = 400;

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

/// Templates of our own in the styles of families in use: name and source.
pub(super) const STYLES: [(&str, &str); 16] = [
    ("llama 3", include_str!("../../../tests/fixtures/styles/llama-3.jinja")),
    ("qwen 2.5", include_str!("../../../tests/fixtures/styles/qwen-2.5.jinja")),
    ("qwen 3", include_str!("../../../tests/fixtures/styles/qwen-3.jinja")),
    ("mistral", include_str!("../../../tests/fixtures/styles/mistral.jinja")),
    ("ministral", include_str!("../../../tests/fixtures/styles/ministral.jinja")),
    ("gemma 2", include_str!("../../../tests/fixtures/styles/gemma-2.jinja")),
    ("gemma 3", include_str!("../../../tests/fixtures/styles/gemma-3.jinja")),
    ("phi 3", include_str!("../../../tests/fixtures/styles/phi-3.jinja")),
    ("phi 4", include_str!("../../../tests/fixtures/styles/phi-4.jinja")),
    ("smollm 2", include_str!("../../../tests/fixtures/styles/smollm-2.jinja")),
    ("smollm 3", include_str!("../../../tests/fixtures/styles/smollm-3.jinja")),
    ("granite", include_str!("../../../tests/fixtures/styles/granite.jinja")),
    ("olmo and tulu", include_str!("../../../tests/fixtures/styles/olmo-and-tulu.jinja")),
    ("zephyr", include_str!("../../../tests/fixtures/styles/zephyr.jinja")),
    ("deepseek", include_str!("../../../tests/fixtures/styles/deepseek.jinja")),
    ("macros", include_str!("../../../tests/fixtures/styles/macros.jinja")),
];

/// What templates look for in contents, and what may be taken for something else.
const HARD: [&str; 34] = [
    "yes",
    "a b",
    "<|im_end|>\n",
    "<|im_start|>assistant\n",
    "<think>",
    "</think>",
    "<think>\nx\n</think>\n\n",
    "user",
    "assistant",
    "model",
    "system",
    "\u{1f389} gr\u{fc}n",
    "None",
    "0",
    "{{ m }}",
    "\t",
    " ",
    "\n",
    "\r\n",
    "\u{a0}",
    "\u{2003}",
    "\u{85}",
    "\u{f8ff}0\u{f8ff}",
    "\u{f8ff}integer:7",
    "[INST] ",
    "[/INST]",
    "<tool_response>",
    "</tool_response>",
    "/no_think",
    "/think",
    "/system_override",
    "<end_of_turn>\n",
    "\u{1c}",
    "</s>",
];

#[test]
fn templates_of_many_styles_are_filled_as_they_are_rendered() {
    let mut numbers = Numbers(11);
    let mut few = Vec::new();
    for (name, source) in STYLES {
        let special = [("bos_token", "<s>"), ("eos_token", "</s>")];
        let special = special.map(|(name, token)| (name.to_owned(), token.to_owned())).into();
        let template = ChatTemplate::new(source, name, special).unwrap();
        let stencils = Stencils::new(template.has_marks());
        let (mut filled, mut asked) = (0, 0);
        for round in 0..ROUNDS {
            let system = numbers.below(2);
            let count = system + 1 + numbers.below(5);
            let orderly = round % 5 != 0;
            let mut messages = Vec::new();
            for index in 0..count {
                let role = match (orderly, index < system) {
                    (_, true) => "system",
                    (true, false) => ["user", "assistant"][(index - system) % 2],
                    (false, false) => ["user", "assistant", "system", "tool"][numbers.below(4)],
                };
                let parts = numbers.below(5);
                let easy = round % 2 == 0;
                let content: String = (0..parts)
                    .map(|_| if easy { TEXTS[numbers.below(2)] } else { HARD[numbers.below(34)] })
                    .collect();
                messages.push(json!({ "role": role, "content": content }));
            }
            let conversation = Conversation { messages, ..Conversation::default() };
            let find_turns = round % 8 != 0;
            let expected = hand(&template, &conversation, find_turns);
            asked += usize::from(orderly && (system == 0 || name != "gemma 2"));
            let Some(found) = put_together(&stencils, &template, &conversation, find_turns) else {
                continue;
            };
            let (_, expected) = expected.expect(name);
            assert_eq!(found, expected, "{name}\n{conversation:?}");
            filled += usize::from(orderly);
        }
        if 2 * filled < asked || asked < 40 {
            few.push((name, filled, asked));
        }
    }
    assert!(few.is_empty(), "{few:?}");
}

/// Numbers that are always the same.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn below(&mut self, most: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most
    }

    fn conversation(&mut self) -> Conversation {
        let count = 1 + self.below(5);
        let mut not_targets = BTreeSet::new();
        let mut messages = Vec::new();
        for index in 0..count {
            let role = ["user", "assistant", "system", "user", "assistant"][self.below(5)];
            let content: String = (0..1 + self.below(3)).map(|_| TEXTS[self.below(22)]).collect();
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
    let mut count = [0; 6];
    for (number, source) in TEMPLATES.iter().enumerate() {
        let special = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
        let template = ChatTemplate::new(source, "t", special).unwrap();
        let stencils = Stencils::new(template.has_marks());
        let mut numbers = Numbers(7);
        for round in 0..400 {
            let conversation = numbers.conversation();
            let find_turns = round % 4 != 0;
            let Some(found) = put_together(&stencils, &template, &conversation, find_turns) else {
                continue;
            };
            let (_, expected) = hand(&template, &conversation, find_turns).unwrap();
            assert_eq!(found, expected, "{source}\n{conversation:?}");
            count[number] += 1;
        }
    }
    assert!(count[..3].iter().all(|count| *count > 60), "{count:?}");
    assert!(count[5] > 60, "{count:?}");
}

/// What a stencil gives, made where there is none yet.
pub(super) fn put_together(
    stencils: &Stencils,
    template: &ChatTemplate,
    conversation: &Conversation,
    find_turns: bool,
) -> Option<Handed> {
    let make = |plain: &Plain| Ok(stencil(template, plain));
    let filled = stencils.filled(template.source(), conversation, find_turns, &make);
    filled.map(|filled| filled.handed)
}

fn stencil(template: &ChatTemplate, plain: &Plain) -> Option<Stencil> {
    let sample = |hole: &Hole| match hole {
        Hole::Text(_) => None,
        Hole::Value(value) => Some(value.as_ref().clone()),
    };
    let samples: Vec<Option<Value>> = plain.holes.iter().map(sample).collect();
    Stencil::new(template, &plain.outline, &samples)
}

#[test]
fn what_may_be_written_otherwise_is_left_to_the_template() {
    let of = |content: Value| Conversation {
        messages: vec![json!({ "role": "user", "content": content })],
        ..Conversation::default()
    };
    assert!(outline::is_bare(&of(json!("a"))));
    for content in [json!(["a"]), json!("a\u{1d}"), json!("\u{f8ff}integer:7")] {
        assert!(Plain::of(&of(content.clone())).is_none(), "{content}");
    }
    let (one, other) = (of(json!("a")), of(json!("b")));
    let outline = |of: &Conversation| Plain::of(of).unwrap().outline;
    assert_eq!(outline(&one), outline(&other));
    let mut more = of(json!("a"));
    more.messages[0]["}"] = json!("x");
    let mut others = vec![of(json!("")), of(json!(null)), more.clone()];
    more.messages[0]["}"] = json!(["x"]);
    others.push(more);
    let tools = Some(json!([]));
    others.push(Conversation { tools, ..one.clone() });
    let template_args = json!({ "a": 1 }).as_object().unwrap().clone();
    others.push(Conversation { template_args, ..one.clone() });
    let template_args = json!({ "a": 2 }).as_object().unwrap().clone();
    others.push(Conversation { template_args, ..one.clone() });
    let all: BTreeSet<String> = others.iter().chain([&one]).map(outline).collect();
    assert_eq!(all.len(), 8, "{all:?}");
    // Fields that only some templates know may stand beside.
    let bare: Vec<bool> = others.iter().map(outline::is_bare).collect();
    assert_eq!(bare, [false, false, true, true, false, false, false]);
    for plain in all {
        assert!(
            outline::Outline::read(&plain).is_some_and(|it| it.messages.len() == 1),
            "{plain:?}"
        );
        let cut = plain.get(..plain.len() - 1).unwrap();
        assert!(outline::Outline::read(cut).is_none());
    }
}

/// Else each would be looked at as if nothing were known of the template.
#[test]
fn fields_that_a_template_leaves_out_are_told_without_looking_at_each_record() {
    let of = |content: &str, author: &str| Conversation {
        messages: vec![
            json!({ "role": "user", "content": content, "id": "7", "stamp": 3, "author": author }),
            json!({ "role": "assistant", "content": "so be it", "stamp": 4, "author": author }),
        ],
        ..Conversation::default()
    };
    let template = ChatTemplate::new(TEMPLATES[0], "t", BTreeMap::new()).unwrap();
    let conversation = of("what is it", "Ann");
    let plain = Plain::of(&conversation).unwrap();
    let stencil = stencil(&template, &plain).unwrap();
    for find_turns in [false, true] {
        let filled = stencil.fill(&conversation, &plain.holes, find_turns).unwrap();
        let handed = hand(&template, &conversation, find_turns).unwrap().1;
        assert_eq!(filled, handed);
        let what: Vec<&str> = handed.unused.iter().map(|unused| unused.what.as_str()).collect();
        assert_eq!(what, ["`stamp` of messages", "`author` of messages"]);
    }
    // Where it may be written, more must be looked at.
    let other = of("the author is Ann", "Ann");
    let plain = Plain::of(&other).unwrap();
    assert!(stencil.fill(&other, &plain.holes, true).is_none());
}

/// What a template may do in a loop with the message `m`.
const SNIPPETS: [&str; 82] = [
    "{{ m.content | upper }}",
    "{{ m['content'].strip() }}",
    "{{ m.content[0] }}",
    "{{ m['con' ~ 'tent'] }}",
    "{{ m.get('content') }}",
    "{% set get = m.get %}{{ get('content') | upper }}",
    "{{ m['items']() }}",
    "{% for text in m.values() %}{{ text }}{% endfor %}",
    "{{ m }}",
    "{{ m | tojson }}",
    "{{ (m.content + 'a') | trim }}",
    "{{ m.content if x else 'b' }}",
    "{{ m.content + x * 2 }}",
    "{{ 'a' in m.content }}",
    "{{ m.content | length }}",
    "{{ x(m.content) }}",
    "{{ messages | tojson }}",
    "{{ messages[0] }}",
    "{{ messages[m.content].role }}",
    "{{ messages[-1:][0].content }}",
    "{{ loop.previtem.content }}",
    "{{ loop }}",
    "{% if m.content == 'a' %}{% endif %}",
    "{% if (m.content) == 'a' %}{% endif %}",
    "{% if 'a' == m.content is string %}{% endif %}",
    "{% if m.content is lower %}{% endif %}",
    "{% if x(a or m.content and b) %}{% endif %}",
    "{% if (a or m.content) > 'b' %}{% endif %}",
    "{% if 'a' in m.content or b %}{% endif %}",
    "{% if a if m.content else b %}{% endif %}",
    "{% set x = m.content %}{% if x %}{% endif %}",
    "{% set x = m.content %}{{ x | trim }}",
    "{% set x = m.content %}{% set y = x %}{{ y | upper }}",
    "{% set x = m %}{{ x.content | upper }}",
    "{% set ns.x = m.content %}",
    "{% set a, b = m.content, 1 %}",
    "{% set x %}{{ m.content }}{% endset %}{{ x | upper }}",
    "{% set messages = [] %}",
    "{% for c in m.content %}{{ c }}{% endfor %}",
    "{% for a, b in messages %}{% endfor %}",
    "{% for key in m %}{{ m[key] }}{% endfor %}",
    "{% for x in messages if x.content == 'a' %}{% endfor %}",
    "{% for x in messages recursive %}{{ loop(x) }}{% endfor %}",
    "{% filter upper %}{{ m.content }}{% endfilter %}",
    "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(m.content) }}",
    "{% generation %}{{ m.content }}{% endgeneration %}",
    "{{ raise_exception(m.content) }}",
    "{{ debug() }}",
    "{{ '\\x41' }}",
    "\u{f8ff}",
    "{{ m.content ",
    "{{ m.content | trim | upper }}",
    "{{ m.content.replace('<think>', '') }}",
    "{{ m.content.split('</think>')[-1].lstrip('\\n') }}",
    "{{ m.content.strip('>') }}",
    "{{ m.content.rstrip() ~ m.content.lstrip() }}",
    "{{ (' ' ~ m.content ~ ' ').strip() }}",
    "{% if m.content.endswith('>') %}a{% endif %}",
    "{% if m.content.endswith('\\n') %}a{% endif %}",
    "{% if m.content | trim %}a{% endif %}",
    "{% if m.content != '<think>' %}a{% endif %}",
    "{% if m.content != '' %}a{% endif %}",
    "{% if m.content in ['a', '<think>'] %}a{% endif %}",
    "{% if m.content is not string %}a{% endif %}",
    "{% if m.content > '<' %}a{% endif %}",
    "{% if m.content == messages[0].content %}a{% endif %}",
    "{% if m == messages[0] %}a{% endif %}",
    "{% if last %}{{ last }}{% endif %}{% set last = m.content %}",
    "{% if not loop.last %}{% if '</think>' in messages[loop.index0 + 1].content %}a{% endif %}\
     {% endif %}",
    "{{ 'a' if '</think>' in (messages | last).content }}",
    "{% set true = m.content %}{% if true %}a{% endif %}",
    "{% set c %}{% set d = m.content %}{% endset %}{{ d }}",
    "{{ '%s' % m.content }}",
    "{{ m.content * 2 }}",
    "{{ [m.content] | join }}",
    "{{ m.content | default('a') }}",
    "{{ m.get('content', '') | trim }}{{ m.get('name', 'none') }}",
    "{{ (m.content | trim)[:3] }}",
    "{{ m.content | indent }}",
    "{{ m.content | e }}",
    "{{ m.content | length > 3 }}",
    "{% if m.content | length == 3 %}a{% endif %}",
];

/// The same numbers choose the same templates.
fn made(numbers: &mut Numbers, depth: usize) -> String {
    const TEXT: [&str; 9] = [
        "m.content",
        "m.content | trim",
        "m['content'].lstrip('\\n')",
        "(m.role ~ ': ' ~ m.content)",
        "c",
        "messages[0].content",
        "messages[loop.index0 - 1].content",
        "ns.t",
        "('a' ~ c).strip()",
    ];
    let text = TEXT[numbers.below(9)];
    let condition = |numbers: &mut Numbers| match numbers.below(12) {
        0 => text.to_owned(),
        1 => format!("not {text}"),
        2 => format!("'</think>' in {text}"),
        3 => format!("({text}).startswith('<think>')"),
        4 => format!("({text}).endswith('>')"),
        5 => format!("{text} == ''"),
        6 => format!("{text} != '<think>'"),
        7 => "c is defined".to_owned(),
        8 => "loop.last".to_owned(),
        9 => "m.role == 'user'".to_owned(),
        10 => format!("({text} and '<think>' in ns.t)"),
        _ => format!("('</think>' in m.content or {text}) != (loop.index0 % 2 == 0)"),
    };
    match numbers.below(if depth == 0 { 4 } else { 6 }) {
        0 => format!("{{{{ {text} }}}}"),
        1 => format!("{{% set c = {text} %}}"),
        2 => format!("{{% set ns.t = {text} %}}"),
        3 => String::from("-"),
        _ => {
            let (condition, then) = (condition(numbers), made(numbers, depth - 1));
            let (other, more) = (made(numbers, depth - 1), made(numbers, depth - 1));
            format!("{{% if {condition} %}}{then}{{% else %}}{other}{{% endif %}}{more}")
        }
    }
}

/// How often a template's stencils were filled, each time as the template writes it.
fn compared(source: &str, numbers: &mut Numbers) -> usize {
    const ROLES: [&[&str]; 3] =
        [&["user", "assistant"], &["system", "user", "assistant", "user"], &["user"; 3]];
    let special = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
    let Ok(template) = ChatTemplate::new(source, "t", special) else { return 0 };
    let stencils = Stencils::new(template.has_marks());
    let mut count = 0;
    for (number, roles) in ROLES.iter().enumerate() {
        let of = |numbers: &mut Numbers| Conversation {
            messages: roles
                .iter()
                .map(|role| {
                    let content: String =
                        (0..1 + numbers.below(3)).map(|_| HARD[numbers.below(34)]).collect();
                    json!({ "role": role, "content": content })
                })
                .collect(),
            ..Conversation::default()
        };
        let conversations: Vec<Conversation> = (0..8).map(|_| of(numbers)).collect();
        let find_turns = number != 2;
        for conversation in &conversations {
            let Some(found) = put_together(&stencils, &template, conversation, find_turns) else {
                continue;
            };
            let expected = hand(&template, conversation, find_turns).map(|(_, handed)| handed);
            assert_eq!(Ok(found), expected, "{source}\n{conversation:?}");
            count += 1;
        }
    }
    count
}

#[test]
fn whatever_a_template_does_it_is_filled_as_it_is_rendered_or_not_at_all() {
    let mut numbers = Numbers(5);
    let mut filled = BTreeSet::new();
    for snippet in SNIPPETS {
        let source = format!(
            "{{% for m in messages %}}{snippet}{{{{ m.role ~ ': ' ~ m.content }}}};{{% endfor %}}"
        );
        if compared(&source, &mut numbers) > 0 {
            filled.insert(snippet);
        }
    }
    for snippet in SNIPPETS {
        let unknown = ["upper", "indent", "| e ", "[:3]", "* 2", "lower", "> '<'", "%s"];
        assert!(!unknown.iter().any(|it| snippet.contains(it)) || !filled.contains(snippet));
    }
    assert!(filled.len() > 5, "{filled:?}");
    let mut count = 0;
    for _ in 0..500 {
        let inside = made(&mut numbers, 3);
        let source = format!(
            "{{% set ns = namespace(t='') %}}{{% set c = '' %}}{{% for m in messages %}}{inside}\
             {{{{ '<' ~ m.role ~ '>' ~ m.content ~ '\\n' }}}}{{% endfor %}}"
        );
        // Where a turn repeats what was said, little is put together: also without that.
        let quiet = inside.replace("{{", "{% set x = ").replace("}}", " %}");
        count += compared(&source, &mut numbers);
        count += compared(&source.replace(&inside, &quiet), &mut numbers);
    }
    assert!(count > 500, "{count}");
}

/// Also where templates end the whole text with a token of its own, so that turns that others
/// follow are not found by prefixes.
#[test]
fn conversations_of_several_turns_have_stencils_in_all_styles() {
    let mut none = Vec::new();
    for (name, source) in STYLES {
        let special = [("bos_token", "<s>"), ("eos_token", "</s>")];
        let special = special.map(|(name, token)| (name.to_owned(), token.to_owned())).into();
        let template = ChatTemplate::new(source, name, special).unwrap();
        let made = |count: usize| {
            let roles = ["user", "assistant"].into_iter().cycle().take(count);
            let messages = roles.map(|role| json!({ "role": role, "content": "a b" })).collect();
            let conversation = Conversation { messages, ..Conversation::default() };
            put_together(&Stencils::new(false), &template, &conversation, true)
        };
        assert!(made(2).is_some(), "{name}");
        none.extend(made(6).is_none().then_some(name));
    }
    assert!(none.is_empty(), "{none:?}");
}

#[test]
fn what_grows_without_end_has_no_stencil() {
    for inside in [
        "{% set ns.t = ns.t ~ ns.t ~ 'aaaaaaaa' %}",
        "{% set ns.l = [ns.l] %}",
        "{% set ns.l = ns.l + ns.l + [1] %}",
        "{% for j in range(9000) %}{% for k in range(9000) %}{% endfor %}{% endfor %}",
        "{% for j in range(9000) %}{{ 'aaaaaaaaaaaaaaaaaaaaaaaaaa' }}{% endfor %}",
    ] {
        let source = format!(
            "{{% set ns = namespace(t='', l=[]) %}}{{% for i in range(5000) %}}{inside}\
             {{% endfor %}}{{% for m in messages %}}{{{{ m.content }}}}{{% endfor %}}"
        );
        let known = |text: &str| Shape::Known(text.to_owned());
        let fields = [("role", known("user")), ("content", Shape::Text(0))];
        let fields = fields.map(|(name, shape)| (name.to_owned(), shape)).into();
        let given = Given {
            messages: vec![Shape::Object(std::rc::Rc::new(fields))],
            tools: Shape::Null,
            args: BTreeMap::new(),
            holes: vec![Hole::Text(probe(0).into())],
            special: &BTreeMap::new(),
        };
        assert!(Trace::new(&source, given).unwrap().write(1, false).is_none(), "{inside}");
    }
}

#[test]
fn a_record_that_looks_like_a_probe_is_looked_for_as_any_other() {
    let source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}";
    let template = ChatTemplate::new(source, "t", BTreeMap::new()).unwrap();
    let words = "\u{f8ff}99\u{f8ff}";
    let messages = vec![
        json!({ "role": "user", "content": words }),
        json!({ "role": "assistant", "content": format!("{words} and {words}") }),
        json!({ "role": "tool", "content": words }),
    ];
    let conversation = Conversation { messages, ..Conversation::default() };
    assert!(hand(&template, &conversation, true).is_ok());
}
