//! What is learnt, for the ways in which chat templates write turns.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::data::codec::Codec;
use crate::data::example::Example;
use crate::data::fixture::{codec, codec_with, model_dir};
use crate::data::show::pieces;

const LLAMA: &str = "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}<|pad|>\n\n\
    {{ m.content | trim }}<|im_end|>{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant<|pad|>\n\n{% endif %}";

/// The conversation's text with what is learnt in brackets.
fn marked(codec: &Codec, messages: Value) -> Result<String, String> {
    let messages = messages.as_array().unwrap().clone();
    let conversation = Conversation { messages, ..Conversation::default() };
    let rendered = codec.chat_template().unwrap().render(&[&conversation]).unwrap().remove(0)?;
    let encoded = codec.tokenizer.encode(&rendered.text).unwrap();
    let learn = mask(&codec.tokenizer, &rendered, &encoded);
    let pieces = pieces(codec, &Example { tokens: encoded.tokens, learn }).unwrap();
    let joined: String = pieces.iter().map(|piece| piece.text.as_str()).collect();
    assert_eq!(joined, rendered.text);
    let show = |piece: &crate::data::Piece| match piece.learnt {
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
fn generation_marks_make_no_difference() {
    let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n\
        {% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}\
        {% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}\
        {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    let text = marked(&codec_with(source), json!([user("Hi"), assistant("Ho")])).unwrap();
    assert!(text.ends_with("assistant\n[Ho<|im_end|>]"), "{text}");
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
    assert!(
        text.contains(
            "[\n<tool_call>{\"name\": \"add\", \"arguments\": {\"a\": 1}}</tool_call><|im_end|>]\n\
             <|im_start|>tool\n2<|im_end|>\n"
        ),
        "{text}"
    );
    assert!(text.ends_with("[2<|im_end|>]\n"), "{text}");
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
    assert!(
        text.contains("assistant\n[<tool_call>f</tool_call><|im_end|>]\n<|im_start|>tool"),
        "{text}"
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
    assert!(reason.contains("message 2"), "{reason}");
    let source = "{{ raise_exception('roles must alternate') }}";
    let reason = marked(&codec_with(source), json!([user("a")])).unwrap_err();
    assert!(reason.contains("refuses the conversation: roles must alternate"), "{reason}");
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
    include_str!("../../checkpoints/base-tiny/artifact/chat_template.jinja"),
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
