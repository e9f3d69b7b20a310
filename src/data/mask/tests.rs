//! What is trained on, for the ways in which chat templates write turns.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::data::codec::Codec;
use crate::data::example::Example;
use crate::data::fixture::{codec, codec_with, model_dir};
use crate::data::show::pieces;
use crate::snapshots::says;

const LLAMA: &str = "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}<|pad|>\n\n\
    {{ m.content | trim }}<|im_end|>{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant<|pad|>\n\n{% endif %}";

/// The conversation's text with what is trained on in brackets.
fn marked(codec: &Codec, messages: Value) -> Result<String, String> {
    let messages = messages.as_array().unwrap().clone();
    shown(codec, &Conversation { messages, ..Conversation::default() })
}

/// The template of a codec, compiled here.
fn template(codec: &Codec) -> ChatTemplate {
    let text = codec.chat_template().unwrap();
    let special = codec.tokenizer.special_names().clone();
    ChatTemplate::new(text.source(), text.origin(), special).unwrap()
}

fn shown(codec: &Codec, conversation: &Conversation) -> Result<String, String> {
    let rendered = render(&template(codec), conversation)?;
    let encoded = codec.tokenizer.encode(&rendered.text).unwrap();
    let loss_mask = mask(codec, &rendered, &encoded);
    let pieces = pieces(codec, &Example { tokens: encoded.tokens, loss_mask }).unwrap();
    let joined: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
    assert_eq!(joined, rendered.text);
    let show = |piece: &crate::data::ExampleSpan| match piece.target {
        true => format!("[{}]", piece.text),
        false => piece.text.clone(),
    };
    Ok(pieces.iter().map(show).collect())
}

fn user(text: &str) -> Value {
    json!({ "role": "user", "content": text })
}

fn assistant(text: &str) -> Value {
    json!({ "role": "assistant", "content": text })
}

#[test]
fn every_answer_is_learnt_with_its_end_and_nothing_else() {
    let messages = json!([user("Hi"), assistant("Hällo 🎉"), user("Why?"), assistant("So.")]);
    assert_eq!(
        marked(&codec(), messages).unwrap(),
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n[Hällo 🎉<|im_end|>]\n\
         <|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n[So.<|im_end|>]\n"
    );
}

#[test]
fn a_template_with_bos_that_trims_content() {
    let messages = json!([user(" Hi "), assistant("  It is. \n"), user("x"), assistant("y")]);
    assert_eq!(
        marked(&codec_with(LLAMA), messages).unwrap(),
        "<|bos|><|im_start|>user<|pad|>\n\nHi<|im_end|><|im_start|>assistant<|pad|>\n\n\
         [It is.<|im_end|>]<|im_start|>user<|pad|>\n\nx<|im_end|><|im_start|>assistant<|pad|>\n\n\
         [y<|im_end|>]"
    );
}

#[test]
fn tools_and_turns_without_words() {
    let call = json!([{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}]);
    let messages = json!([
        user("1+1?"),
        {"role": "assistant", "content": null, "tool_calls": call},
        {"role": "tool", "content": "2"},
        assistant("2")
    ]);
    let text = marked(&codec(), messages).unwrap();
    says(
        &text,
        snapbox::str![[r#"
<|im_start|>user
1+1?<|im_end|>
<|im_start|>assistant
[
<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call><|im_end|>]
<|im_start|>tool
2<|im_end|>
<|im_start|>assistant
[2<|im_end|>]

"#]],
    );
}

/// As Qwen3 does it: only the last turns keep, and get, their reasoning.
const REASONING: &str = "{% set ns = namespace(last=0) %}{% for m in messages %}\
    {% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}\
    {% for m in messages %}<|im_start|>{{ m.role }}\n\
    {% if m.role == 'assistant' and loop.index0 > ns.last and loop.last %}\
    <think>\n\n</think>\n\n{% endif %}\
    {{ m.content.split('</think>')[-1] if m.content else '' }}\
    {% for c in m.tool_calls or [] %}<tool_call>{{ c.name }}</tool_call>{% endfor %}<|im_end|>\n\
    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

#[test]
fn turns_that_are_written_differently_once_others_follow() {
    let messages =
        json!([user("a"), assistant("<think>x</think>One"), user("b"), assistant("Two")]);
    assert_eq!(
        marked(&codec_with(REASONING), messages).unwrap(),
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[One<|im_end|>]\n\
         <|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n\
         [<think>\n\n</think>\n\nTwo<|im_end|>]\n"
    );
    let messages = json!([
        user("a"),
        {"role": "assistant", "tool_calls": [{"name": "f"}]},
        {"role": "tool", "content": "r"},
        assistant("b")
    ]);
    let text = marked(&codec_with(REASONING), messages).unwrap();
    says(
        &text,
        snapbox::str![[r#"
<|im_start|>user
a<|im_end|>
<|im_start|>assistant
[<tool_call>f</tool_call><|im_end|>]
<|im_start|>tool
r<|im_end|>
<|im_start|>assistant
[<think>

</think>

b<|im_end|>]

"#]],
    );
}

#[test]
fn a_text_that_ends_with_a_token_of_its_own() {
    // As Phi-3 does it.
    let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n\
        {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n\
        {% else %}<|endoftext|>{% endif %}";
    let messages = json!([user("a"), assistant("b"), user("c"), assistant("d")]);
    assert_eq!(
        marked(&codec_with(source), messages).unwrap(),
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>]\n\
         <|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n[d<|im_end|>\n<|endoftext|>]"
    );
}

/// As DeepSeek-V3 does it: the prompt opens the reasoning, and a call stands in its place.
#[test]
fn a_call_behind_a_generation_prompt_that_begins_the_reasoning() {
    let source = "{% for m in messages %}<|im_start|>{{ m.role }}:{{ m.content or '' }}\
        {% for c in m.tool_calls or [] %}<call>{{ c.name }}{{ c.arguments | tojson }}</call>\
        {% endfor %}<|im_end|>{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant:<think>\n{% endif %}";
    let call = json!({"role": "assistant", "content": "",
        "tool_calls": [{"name": "f", "arguments": {"a": 1}}]});
    let last = marked(&codec_with(source), json!([user("a"), call])).unwrap();
    let turn = "<|im_start|>assistant:[<call>f{\"a\": 1}</call><|im_end|>]";
    assert!(last.ends_with(turn), "{last}");
    let tool = json!({"role": "tool", "content": "r"});
    let inside = marked(&codec_with(source), json!([user("a"), call, tool, assistant("b")]));
    let inside = inside.unwrap();
    says(
        &inside,
        snapbox::str![[
            r#"<|im_start|>user:a<|im_end|><|im_start|>assistant:[<call>f{"a": 1}</call><|im_end|>]<|im_start|>tool:r<|im_end|><|im_start|>assistant:[b<|im_end|>]"#
        ]],
    );
}

/// As gpt-oss does it: reasoning is a message of its own, and left out where an answer follows.
#[test]
fn a_turn_in_two_parts_that_begin_alike_is_learnt_whole() {
    let source = "{% for m in messages %}{% if m.thinking and (loop.last or m.content) %}\
        <|im_start|>{{ m.role }}:thinks {{ m.thinking }}<|im_end|>{% endif %}\
        <|im_start|>{{ m.role }}:{{ m.content or '' }}{% for c in m.tool_calls or [] %}\
        {{ c.name }}{% endfor %}<|im_end|>{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant{% endif %}";
    let call = json!({"role": "assistant", "thinking": "I ask", "content": "",
        "tool_calls": [{"name": "f"}]});
    let tool = json!({"role": "tool", "content": "r"});
    let answer = json!({"role": "assistant", "thinking": "dry", "content": "No."});
    let text = marked(&codec_with(source), json!([user("a"), call, tool, answer])).unwrap();
    let end = "<|im_start|>assistant[:thinks dry<|im_end|><|im_start|>assistant:No.<|im_end|>]";
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn a_generation_prompt_that_says_more_than_the_record() {
    // As DeepSeek-R1 does it: generation begins inside the reasoning.
    let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\
        {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>{% endif %}";
    assert_eq!(
        marked(&codec_with(source), json!([user("a"), assistant("b")])).unwrap(),
        "<|im_start|>user\na<|im_end|><|im_start|>assistant\n[b<|im_end|>]"
    );
}

#[test]
fn a_conversation_that_the_assistant_begins() {
    let source = "{% if not messages %}{{ raise_exception('no messages') }}{% endif %}\
        {% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";
    assert_eq!(
        marked(&codec_with(source), json!([assistant("a"), user("b")])).unwrap(),
        "<|im_start|>assistant\n[a<|im_end|>]\n<|im_start|>user\nb<|im_end|>\n"
    );
}

#[test]
fn a_template_that_hides_the_turn_is_an_error() {
    // The answer comes twice, and the generation prompt stands nowhere.
    let source = "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}\
        {% if add_generation_prompt %}?{% endif %}";
    let reason = marked(&codec_with(source), json!([user("a"), assistant("b")])).unwrap_err();
    says(
        &reason,
        snapbox::str!["cannot find message 2, the assistant's, in the rendered conversation"],
    );
    let source = "{{ raise_exception('roles must alternate') }}";
    let reason = marked(&codec_with(source), json!([user("a")])).unwrap_err();
    says(
        &reason,
        snapbox::str![
            "the chat template refuses the conversation: roles must alternate (line 1 of the template)"
        ],
    );
}

#[test]
fn a_token_across_the_border_belongs_to_where_it_begins() {
    // The template ends the prompt with a space, which the tokenizer joins to the answer's word.
    let source = "{% for m in messages %}{{ m.role }}: {{ m.content }} .\n{% endfor %}\
        {% if add_generation_prompt %}assistant: {% endif %}";
    let codec = codec_with(source);
    let text = marked(&codec, json!([user("x"), assistant("the capital of Peru")])).unwrap();
    assert_eq!(text, "user: x .\nassistant: the[ capital of Peru .\n]");
}

/// Templates of all the ways in which turns are found.
const SHAPES: [&str; 6] = [
    LLAMA,
    REASONING,
    // Ends the whole text with a token of its own.
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
     {% if add_generation_prompt %}<|im_start|>assistant\n{% else %}<|endoftext|>{% endif %}",
    // Says more in the generation prompt than the record does.
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}\
     {% if add_generation_prompt %}<|im_start|>assistant\n<think>{% endif %}",
    // Treats the last turn in its own way, and the first message as well.
    "{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}{% else %}\
     {% set rest = messages %}{% endif %}{% for m in rest %}{{ m.role }}: {{ m.content|trim }}\
     {% if not loop.last %}<|im_end|>{% endif %}\n{% endfor %}\
     {% if add_generation_prompt %}assistant: {% endif %}",
    include_str!("../../../checkpoints/base-tiny/artifact/chat_template.jinja"),
];

#[test]
fn watching_the_template_makes_no_difference() {
    let own = std::fs::read_to_string(model_dir().join("chat_template.jinja")).unwrap();
    let roles = ["user", "assistant", "system", "assistant", "tool"];
    let contents = ["Hi", "  It is. \n", "Häll🎉", "", "<think>a</think>b"];
    let mut found = 0;
    for source in SHAPES.into_iter().chain([own.as_str()]) {
        let new = || ChatTemplate::new(source, "t.jinja", BTreeMap::new()).unwrap();
        let (watched, plain) = (new(), new().unwatched());
        for number in 0..400_usize {
            let message = |index: usize| {
                let draw = number / (index + 1) + index;
                let role = if number % 2 == 0 { roles[index % 2] } else { roles[draw % 5] };
                json!({ "role": role, "content": contents[(number + draw) % 5] })
            };
            let messages = (0..1 + number % 7).map(message).collect();
            let conversation = Conversation { messages, ..Conversation::default() };
            let expected = render(&plain, &conversation);
            assert_eq!(render(&watched, &conversation), expected, "{conversation:?} by {source}");
            found += expected.map_or(0, |rendered| rendered.turns.len());
        }
    }
    assert!(found > 1000, "{found}");
}

/// Marks the answer alone, without the token that ends it, and with it where the user asks on.
const MARKS: &str = "{%- for m in messages %}\n\
    {%- if m.role == 'assistant' %}{{- '<|im_start|>assistant\n' }}\n\
    {%- generation -%}  {{ m.content }}{{ '<|im_end|>' if not loop.last }}  {%- endgeneration -%}\
    {{ '<|im_end|>' if loop.last }}{{ '\n' }}\n\
    {%- else %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}\n\
    {%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %}";

#[test]
fn what_a_template_marks_is_trained_and_nothing_else() {
    let messages = json!([user("Hi"), assistant("Ho"), user("b"), assistant("So.")]);
    let expected = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n[Ho<|im_end|>]\n\
        <|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n[So.]<|im_end|>\n";
    assert_eq!(marked(&codec_with(MARKS), messages.clone()).unwrap(), expected);
    // The text is the same as without marks.
    let bare = MARKS.replace("endgeneration", "endif").replace("generation -%", "if true -%");
    let text = |source: &str| {
        let messages = messages.as_array().unwrap().clone();
        let conversation = Conversation { messages, ..Conversation::default() };
        plain(&template(&codec_with(source)), &conversation).unwrap().text
    };
    assert_eq!(text(MARKS), text(&bare));
    // White space behind the end is trained where the marks say so, unlike where turns are found;
    // what the user says is not, whatever they say.
    let wide = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% generation %}{{ m.content }}\
        <|im_end|>{{ '\n' }}{% endgeneration %}{% endfor %}";
    assert_eq!(
        marked(&codec_with(wide), json!([user("a"), assistant("b")])).unwrap(),
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>\n]"
    );
}

#[test]
fn marks_are_tags_and_not_words() {
    let source = "{# {% generation %} #}{% raw %}{% generation %}{% endraw %}\
        {{ '{% generation %}' }}{% for m in messages %}{{ m.content }}{% endfor %}";
    let codec = codec_with(source);
    assert!(!template(&codec).has_marks());
    let text = marked(&codec, json!([assistant("b")])).unwrap();
    assert!(text.starts_with("{% generation %}{% generation %}"), "{text}");
}

#[test]
fn names_in_marks_are_those_of_a_call_block() {
    // As in Jinja: the block sees the loop, and what it sets stays in it.
    let source = "{% set x = 'out' %}{% for m in messages %}{% if m.role == 'assistant' %}\
        {% generation %}{% set x = 'in' %}{{ m.content }}{{ loop.index }}{{ x }}\
        {% endgeneration %}<|pad|>{{ x }}{% endif %}{% endfor %}";
    let text = marked(&codec_with(source), json!([user("a"), assistant("<|pad|>b")])).unwrap();
    assert_eq!(text, "<|pad|>[b2in]<|pad|>out", "the first token has nothing before it");
    // What it sets of a namespace is seen outside, as a namespace is one object.
    let source = "{% set ns = namespace(x='out') %}<|pad|>{% for m in messages %}  \n\
        {%- generation -%}\n {% set ns.x = m.content %}{% set own = namespace(y='') %}\
        {% set own.y = 'own' %}{{ own.y }}{% endgeneration %}{% endfor %}<|pad|>{{ ns.x }}";
    assert_eq!(
        marked(&codec_with(source), json!([assistant("b")])).unwrap(),
        "<|pad|>[own]<|pad|>b"
    );
}

#[test]
fn marks_that_cannot_be_followed_are_an_error() {
    let source = "{% macro turn(m) %}{{ m.role }}{% generation %}{{ m.content }}\
        {% endgeneration %}{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}";
    let reason = marked(&codec_with(source), json!([user("a"), assistant("b")])).unwrap_err();
    says(
        &reason,
        snapbox::str![
            "the chat template refuses the conversation: `{% generation %}` is inside a macro or a captured block of the chat template, where it cannot be followed; move it to where the text is written, or remove it"
        ],
    );
}

#[test]
fn messages_that_are_no_targets_are_context() {
    let messages = json!([user("a"), assistant("b"), user("c"), assistant("b"), assistant("d")]);
    let not = |not: &[usize]| Conversation {
        messages: messages.as_array().unwrap().clone(),
        not_targets: not.iter().copied().collect(),
        ..Conversation::default()
    };
    let start = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n";
    let next = "\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n";
    let last = "\n<|im_start|>assistant\n";
    let own = codec();
    let (marks, plain) = (codec_with(MARKS), &own);
    for (not, first, second, third) in [
        (not(&[1]), "b<|im_end|>", "[b<|im_end|>]", ["[d<|im_end|>]", "[d]<|im_end|>"]),
        (not(&[3, 4]), "[b<|im_end|>]", "b<|im_end|>", ["d<|im_end|>", "d<|im_end|>"]),
    ] {
        for (codec, third) in [(plain, third[0]), (&marks, third[1])] {
            let expected = format!("{start}{first}{next}{second}{last}{third}\n");
            assert_eq!(shown(codec, &not).unwrap(), expected);
        }
    }
}

/// Writes what tools answer into the turn that called them.
const INSIDE: &str = "{%- for m in messages %}\
    {%- if m.role == 'user' %}{{ '<|im_start|>user\n' + m.content + '<|im_end|>\n' }}\
    {%- elif m.role == 'assistant' %}{{ '<|im_start|>model\n' }}\
    {%- for c in m.tool_calls or [] %}{{ 'call:' + c.function.name }}{% endfor %}\
    {%- set ns = namespace(open=m.tool_calls is defined) %}\
    {%- for k in range(loop.index0 + 1, messages | length) %}\
    {%- if ns.open and messages[k].role == 'tool' %}\
    {{- '<|pad|>result:' + messages[k].content + '<|pad|>' }}\
    {%- else %}{% set ns.open = false %}{% endif %}{% endfor %}\
    {{- m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}\
    {%- if add_generation_prompt %}{{ '<|im_start|>model\n' }}{% endif %}";

#[test]
fn what_a_tool_says_is_no_target_wherever_it_stands() {
    let call = json!([{"type": "function", "function": {"name": "weather", "arguments": {}}}]);
    let called = json!({"role": "assistant", "content": "Let me see.", "tool_calls": call});
    let tool = |text: &str| json!({"role": "tool", "content": text});
    let start = "<|im_start|>user\nwet?<|im_end|>\n<|im_start|>model\n[call:weather]";
    let end = "[Let me see.<|im_end|>]\n<|im_start|>model\n[yes<|im_end|>]\n";
    let codec = codec_with(INSIDE);
    // Also where the tool says what the model says, or what stands in the template.
    for said in ["RESULT", "see", "yes", "a", "<|pad|>", "result:"] {
        let messages = json!([user("wet?"), called, tool(said), assistant("yes")]);
        let expected = format!("{start}<|pad|>result:{said}<|pad|>{end}");
        assert_eq!(marked(&codec, messages).unwrap(), expected);
    }
    let messages = json!([user("wet?"), called, tool("one"), tool("two"), assistant("yes")]);
    assert_eq!(
        marked(&codec, messages).unwrap(),
        format!("{start}<|pad|>result:one<|pad|><|pad|>result:two<|pad|>{end}")
    );
    // Marks do not make a tool's words the model's.
    let marks = INSIDE.replace("{%- for c in", "{%- generation %}{%- for c in").replace(
        "+ '<|im_end|>\n' }}{% endif %}",
        "+ '<|im_end|>\n' }}{% endgeneration %}{% endif %}",
    );
    let messages = json!([user("wet?"), called, tool("RESULT"), assistant("yes")]);
    let text = marked(&codec_with(&marks), messages).unwrap();
    says(
        &text,
        snapbox::str![[r#"
<|im_start|>user
wet?<|im_end|>
<|im_start|>model
[call:weather]<|pad|>result:RESULT<|pad|>[Let me see.<|im_end|>
]<|im_start|>model
[yes<|im_end|>
]
"#]],
    );
}

#[test]
fn what_stands_in_the_next_turn_is_no_target_either() {
    // The answer of a tool begins the turn that follows it, behind the generation prompt.
    let source = "{% for m in messages %}{% if m.role == 'tool' %}{% continue %}{% endif %}\
        <|im_start|>{{ m.role }}\n{% for t in messages[:loop.index0] %}{% if t.role == 'tool' and \
        m.role == 'assistant' %}<|pad|>{{ t.content | tojson }}<|pad|>{% endif %}{% endfor %}\
        {{ m.content }}<|im_end|>\n{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let tool = json!({"role": "tool", "content": "It \"rains\"."});
    let text = marked(&codec_with(source), json!([user("a"), tool, assistant("b")])).unwrap();
    assert!(
        text.ends_with("assistant\n<|pad|>\"It \\\"rains\\\".\"<|pad|>[b<|im_end|>]\n"),
        "{text}"
    );
}

/// The generation prompt writes an empty reasoning block; the last turn keeps its reasoning.
const NO_THINKING: &str = "{%- set ns = namespace(last=-1) %}{%- for m in messages %}\
    {%- if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}\
    {%- for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}\
    {%- set parts = m.content.split('</think>') %}\
    {%- if m.role == 'assistant' and loop.index0 > ns.last %}\
    {{- '<think>\n' + (m.reasoning_content or parts[0].split('<think>')[-1].strip('\n') if \
    parts | length > 1 or m.reasoning_content else '') + '\n</think>\n\n' }}{% endif %}\
    {{- parts[-1].lstrip('\n') + '<|im_end|>\n' }}{% endfor %}\
    {%- if add_generation_prompt %}\
    {{- '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}{% endif %}";

#[test]
fn a_generation_prompt_with_an_empty_reasoning_block() {
    let codec = codec_with(NO_THINKING);
    let start = "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n[one<|im_end|>]\n\
        <|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n<think>\n";
    let mut inside = assistant("<think>\nLATE\n</think>\n\ntwo");
    for _ in 0..2 {
        let messages = json!([user("a"), assistant("one"), user("b"), inside]);
        assert_eq!(
            marked(&codec, messages).unwrap(),
            format!("{start}[LATE\n</think>\n\ntwo<|im_end|>]\n")
        );
        inside = json!({"role": "assistant", "content": "two", "reasoning_content": "LATE"});
    }
    // Without reasoning the whole block is the prompt's.
    let messages = json!([user("a"), assistant("one"), user("b"), assistant("two")]);
    assert_eq!(
        marked(&codec, messages).unwrap(),
        format!("{start}\n</think>\n\n[two<|im_end|>]\n")
    );
}

/// Ends the last turn otherwise than those before it, and refuses to write no messages.
const CHANNELS: &str = "{% if messages[0].role == 'nobody' %}?{% endif %}\
    {% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\
    {% if m.thinking and loop.last %}<|pad|>thinks {{ m.thinking }}<|im_end|>\
    <|im_start|>assistant{% endif %}<|pad|>says {{ m.content }}\
    {% for c in m.tool_calls or [] %}{{ c.function.name }} {{ c.function.arguments | tojson }}\
    {% endfor %}{% if loop.last and not add_generation_prompt %}<|endoftext|>{% else %}<|im_end|>\
    {% endif %}{% else %}<|im_start|>{{ m.role }}<|pad|>{{ m.content }}<|im_end|>{% endif %}\
    {% endfor %}{% if add_generation_prompt %}<|im_start|>assistant{% endif %}";

#[test]
fn the_end_of_every_turn_is_a_target() {
    let codec = codec_with(CHANNELS);
    let messages = json!([assistant("hi"), user("a"), assistant("b"), user("c"),
        {"role": "assistant", "content": "d", "thinking": "x"}]);
    assert_eq!(
        marked(&codec, messages).unwrap(),
        "<|im_start|>assistant[<|pad|>says hi<|im_end|>]<|im_start|>user<|pad|>a<|im_end|>\
         <|im_start|>assistant[<|pad|>says b<|im_end|>]<|im_start|>user<|pad|>c<|im_end|>\
         <|im_start|>assistant[<|pad|>thinks x<|im_end|><|im_start|>assistant<|pad|>says d\
         <|endoftext|>]"
    );
    let call = json!([{"type": "function", "function": {"name": "f", "arguments": {"x": "y"}}}]);
    let messages = json!([user("a"), {"role": "assistant", "content": "", "tool_calls": call},
        {"role": "tool", "content": "r"}, assistant("b")]);
    assert_eq!(
        marked(&codec, messages).unwrap(),
        "<|im_start|>user<|pad|>a<|im_end|><|im_start|>assistant\
         [<|pad|>says f {\"x\": \"y\"}<|im_end|>]<|im_start|>tool<|pad|>r<|im_end|>\
         <|im_start|>assistant[<|pad|>says b<|endoftext|>]"
    );
    // Generation stops where the last turn ends; the other token may stand inside an answer.
    assert_eq!(codec.end_of_turn(), Some(0));
    assert!(codec.turn_ends().iter().eq(&[0, 2]));
    assert!(codec.answer_ends().iter().eq(&[0]));
}

#[test]
fn a_turn_is_not_begun_by_what_introduces_another() {
    // Without a system turn the template writes one of its own, which begins as the assistant's.
    let source = "{% for m in messages %}{% if loop.first and m.role != 'system' %}\
        <|im_start|>system\nBe kind.<|im_end|>\n{% endif %}<|im_start|>{{ m.role }}\n\
        {{ m.content }}<|im_end|>\n{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    assert_eq!(
        marked(&codec_with(source), json!([assistant("a"), user("b"), assistant("c")])).unwrap(),
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>assistant\n[a<|im_end|>]\n\
         <|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n[c<|im_end|>]\n"
    );
}

#[test]
fn a_turn_that_is_ended_by_what_follows() {
    let source = "{% for m in messages %}{% if not loop.first %}<|im_end|>\n{% endif %}\
        {{ m.role }}:\n{{ m.content }}{% endfor %}\
        {% if add_generation_prompt %}<|im_end|>\nassistant:\n{% endif %}";
    let codec = codec_with(source);
    let messages = json!([user("a"), assistant("b"), user("c"), assistant("d")]);
    assert_eq!(
        marked(&codec, messages).unwrap(),
        "user:\na<|im_end|>\nassistant:\n[b<|im_end|>]\nuser:\nc<|im_end|>\nassistant:\n[d]"
    );
    assert_eq!(codec.end_of_turn(), Some(2));
    // A token that introduces a turn ends none.
    let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let codec = codec_with(source);
    assert_eq!(codec.end_of_turn(), None);
    let text = marked(&codec, json!([user("a"), assistant("b"), user("c")])).unwrap();
    assert_eq!(text, "<|im_start|>user\na<|im_start|>assistant\n[b]<|im_start|>user\nc");
}

#[test]
fn turns_that_are_rewritten_later_keep_their_calls() {
    // Reasoning is dropped once the user has asked again, so that no prefix is the text's.
    let source = "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}\
        {% set ns.last = loop.index0 %}{% endif %}{% endfor %}{% for m in messages %}\
        <|im_start|>{{ m.role }}\n{% if m.reasoning_content and loop.index0 > ns.last %}\
        <think>{{ m.reasoning_content }}</think>\n{% endif %}{{ m.content }}\
        {% for c in m.tool_calls or [] %}<call>{{ c.function.name }}\
        {{ c.function.arguments | tojson }}</call>{% endfor %}<|im_end|>\n{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let call = |town: &str| {
        json!({"role": "assistant", "content": "", "reasoning_content": "hm",
        "tool_calls": [{"function": {"name": "f", "arguments": {"town": town}}}]})
    };
    let messages = json!([user("a"), call("Oslo"), {"role": "tool", "content": "f"},
        call("Rome"), {"role": "tool", "content": "r"}, assistant("b"), user("c"), assistant("d")]);
    assert_eq!(
        marked(&codec_with(source), messages).unwrap(),
        "<|im_start|>user\na<|im_end|>\n\
         <|im_start|>assistant\n[<call>f{\"town\": \"Oslo\"}</call><|im_end|>]\n\
         <|im_start|>tool\nf<|im_end|>\n\
         <|im_start|>assistant\n[<call>f{\"town\": \"Rome\"}</call><|im_end|>]\n\
         <|im_start|>tool\nr<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>]\n\
         <|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n[d<|im_end|>]\n"
    );
}
