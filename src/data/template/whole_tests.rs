//! What one rendering tells of all prefixes is what rendering them says, for every template.

use serde_json::{Value as Json, json};

use super::super::*;
use crate::random::Stream;

fn special() -> BTreeMap<String, String> {
    [("bos_token", "<s>"), ("eos_token", "</s>")]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into()
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source, "t.jinja", special()).unwrap()
}

/// Conversations of all lengths and roles; some have tools.
fn conversations() -> Vec<Conversation> {
    let roles = ["user", "assistant", "system", "tool", "user", "assistant"];
    let contents = ["Hi", "", "  It is.\n", "<|im_end|>{{ x }}</think> y", "größe 🎉", "stop"];
    let mut conversations = Vec::new();
    for number in 0..40_u64 {
        let stream = Stream::new(5).number(number);
        let draw = |at: u64, below: u64| usize::try_from(stream.bits(at) % below).unwrap();
        let alternating = number % 3 != 0;
        let with_system = usize::from(number % 4 == 1);
        let message = |index: usize| -> Json {
            let at = index as u64 * 3;
            let role = match alternating {
                true if index < with_system => "system",
                true => ["user", "assistant"][(index - with_system) % 2],
                false => roles[draw(at, 6)],
            };
            let mut message = json!({ "role": role, "content": contents[draw(at + 1, 6)] });
            if role == "assistant" && draw(at + 2, 4) == 0 {
                message["tool_calls"] =
                    json!([{"name": "f", "arguments": {"a": 1}}, {"name": "g"}]);
            }
            message
        };
        let count = 1 + usize::try_from(number % 7).unwrap();
        let tools = (number % 5 == 0).then(|| json!([{"name": "f"}, {"name": "g"}]));
        conversations.push(Conversation {
            messages: (0..count).map(message).collect(),
            tools,
            ..Conversation::default()
        });
    }
    conversations
}

/// Compares what is known of prefixes with their renderings; returns how many were known.
fn compare(source: &str, conversations: &[Conversation]) -> usize {
    let template = template(source);
    let mut known = 0;
    for conversation in conversations {
        let turns = Turns::new(conversation);
        let count = turns.count();
        let plain = template.render(&turns, count, false);
        let whole = match (Whole::new(&template, &turns), plain) {
            (Ok(whole), Ok(plain)) => {
                assert_eq!(whole.text(), plain, "{source}");
                whole
            }
            (Err(reason), Err(plain)) => {
                assert_eq!(reason, plain, "{source}");
                continue;
            }
            (whole, plain) => panic!("{source}\n{:?}\n{plain:?}", whole.map(|w| w.into_text())),
        };
        let longer = format!("{}…", whole.text());
        for (count, generation) in (0..=count).flat_map(|count| [(count, false), (count, true)]) {
            known += usize::from(count > 0 && whole.known(count, generation).is_some());
            let prefix = template.render(&turns, count, generation).ok();
            for text in [whole.text(), longer.as_str(), "", "<s>"] {
                let expected = prefix.as_ref().filter(|prefix| text.starts_with(*prefix));
                assert_eq!(
                    whole.prefix(text, count, generation),
                    expected.map(String::len),
                    "the first {count} of {conversation:?}, {generation}, by {source}"
                );
            }
        }
    }
    known
}

const CHATML: &str = "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + \
    message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

const DEFAULT_SYSTEM: &str = "{% for message in messages %}{% if loop.first and \
    messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}\
    {{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}\
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

const LLAMA_3: &str = "{% set loop_messages = messages %}{% for message in loop_messages %}\
    {% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + \
    message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}\
    {% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}\
    {% endif %}";

const LLAMA_3_1: &str = "{{- bos_token }}\n{%- if messages[0]['role'] == 'system' %}\n    \
    {%- set system_message = messages[0]['content']|trim %}\n    \
    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system_message = \"\" %}\n\
    {%- endif %}\n{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}\n\
    {%- if tools is not none %}\n    {%- for t in tools %}\n        \
    {{- t | tojson(indent=4) }}\n    \
    {%- endfor %}\n{%- endif %}\n{{- system_message }}\n{{- \"<|eot_id|>\" }}\n\
    {%- for message in messages %}\n    {%- if message.role == 'tool' %}\n        \
    {{- \"<|start_header_id|>ipython<|end_header_id|>\\n\\n\" + message.content }}\n    \
    {%- else %}\n        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ \
    message['content'] | trim + '<|eot_id|>' }}\n    {%- endif %}\n{%- endfor %}\n\
    {%- if add_generation_prompt %}\n    \
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n";

const MISTRAL: &str = "{{ bos_token }}{% for message in messages %}\
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
    {{ raise_exception('roles must alternate') }}{% endif %}\
    {% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}\
    {% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}\
    {% else %}{{ raise_exception('only user and assistant') }}{% endif %}{% endfor %}";

const MISTRAL_SYSTEM: &str = "{%- if messages[0]['role'] == 'system' %}\
    {%- set system_message = messages[0]['content'] %}{%- set loop_messages = messages[1:] %}\
    {%- else %}{%- set loop_messages = messages %}{%- endif %}{{- bos_token }}\
    {%- for message in loop_messages %}{%- if message['role'] == 'user' %}\
    {%- if loop.last and system_message is defined %}\
    {{- '[INST] ' + system_message + '\n\n' + message['content'] + '[/INST]' }}{%- else %}\
    {{- '[INST] ' + message['content'] + '[/INST]' }}{%- endif %}{%- else %}\
    {{- ' ' + message['content'] + eos_token }}{%- endif %}{%- endfor %}";

const GEMMA: &str = "{{ bos_token }}{% for message in messages %}\
    {% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}\
    {% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + \
    message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}\
    {% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}";

const PHI_3: &str = "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + \
    message['content'] + '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}\
    {{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}";

const ZEPHYR: &str = "{% for message in messages %}\n{% if message['role'] == 'user' %}\n\
    {{ '<|user|>\n' + message['content'] + eos_token }}\n{% else %}\n\
    {{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n\
    {% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}";

/// With tools, and turns of tools that are joined with their neighbours, as Qwen 2.5 has it.
const TOOLS: &str = "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    \
    {%- for tool in tools %}\n        {{- \"\\n\" }}\n        {{- tool | tojson }}\n    \
    {%- endfor %}\n    {{- '<|im_end|>\\n' }}\n{%- endif %}\n{%- for message in messages %}\n    \
    {%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) or \
    (message.role == \"assistant\" and not message.tool_calls) %}\n        \
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n    \
    {%- elif message.role == \"assistant\" %}\n        \
    {{- '<|im_start|>' + message.role }}\n        \
    {%- for tool_call in message.tool_calls %}\n            {{- '\\n<tool_call>' }}\n            \
    {{- tool_call.arguments | tojson if tool_call.arguments }}\n        {%- endfor %}\n        \
    {{- '<|im_end|>\\n' }}\n    {%- elif message.role == \"tool\" %}\n        \
    {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != \"tool\") %}\n            \
    {{- '<|im_start|>user' }}\n        {%- endif %}\n        \
    {{- '\\n' + message.content }}\n        \
    {%- if loop.last or (messages[loop.index0 + 1].role != \"tool\") %}\n            \
    {{- '<|im_end|>\\n' }}\n        {%- endif %}\n    {%- endif %}\n{%- endfor %}\n\
    {%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n";

/// Only the turns after the last question keep their reasoning, as Qwen 3 has it.
const REASONING: &str = "{%- set ns = namespace(last=messages|length - 1) %}\
    {%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}\
    {%- if message.role == 'user' and ns.last == messages|length - 1 %}{%- set ns.last = index %}\
    {%- endif %}{%- endfor %}{%- for message in messages %}{{- '<|im_start|>' + message.role }}\
    {%- if loop.index0 > ns.last %}{{- '<think>' + message.content }}{%- else %}\
    {{- message.content.split('</think>')[-1] }}{%- endif %}{{- '<|im_end|>\n' }}{%- endfor %}\
    {%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}";

/// Templates, and whether one rendering tells their prefixes.
const TEMPLATES: [(&str, bool); 13] = [
    (CHATML, true),
    (DEFAULT_SYSTEM, true),
    (LLAMA_3, true),
    (LLAMA_3_1, true),
    (MISTRAL, true),
    (MISTRAL_SYSTEM, true),
    (GEMMA, true),
    (PHI_3, true),
    (ZEPHYR, false),
    (TOOLS, true),
    (REASONING, false),
    (include_str!("../../../tests/fixtures/tokenizer/chat_template.jinja"), true),
    (include_str!("../../../checkpoints/base-tiny/artifact/chat_template.jinja"), true),
];

#[test]
fn published_templates_write_the_prefixes_that_one_rendering_tells() {
    let conversations = conversations();
    for (source, expected) in TEMPLATES {
        assert_eq!(compare(source, &conversations) > 0, expected, "{source}");
    }
}

#[test]
fn one_rendering_is_enough_for_a_long_conversation() {
    let message = |index: usize| {
        let role = ["user", "assistant"][index % 2];
        json!({ "role": role, "content": format!("turn {index}") })
    };
    let conversation =
        Conversation { messages: (0..50).map(message).collect(), ..Conversation::default() };
    for source in [CHATML, DEFAULT_SYSTEM, LLAMA_3, GEMMA, TOOLS] {
        let template = template(source);
        let turns = Turns::new(&conversation);
        let whole = Whole::new(&template, &turns).unwrap();
        for count in 1..=50 {
            for generation in [false, true] {
                assert!(whole.known(count, generation).is_some(), "{count} {source}");
            }
        }
        assert!(template.plain_prompt(&turns).unwrap().get().unwrap().is_some());
    }
}

const BEFORE: [&str; 17] = [
    "",
    "{{ bos_token }}\n",
    "{% if messages[0].role == 'system' %}S:{{ messages[0].content }}{% endif %}",
    "{% set x = messages[0]['content'] %}",
    "{% if messages|length > 2 %}many{% endif %}",
    "{% if tools %}T{{ tools|tojson }}{% endif %}",
    "{% if messages[-1].role == 'user' %}U{% endif %}",
    "{% set i = -1 %}{{ messages[i].role }}",
    "{{ messages[1].content }}",
    "{% if messages %}yes{% endif %}{% if not messages %}no{% endif %}",
    "{% for t in tools or [] %}{{ t.name }}{% if loop.last %}!{% endif %}{% endfor %}",
    "{% if messages and messages[0].role == 'system' %}s{% endif %}",
    "{% set ns = namespace(n=0) %}",
    "{# {% for m in messages %} #}{% set x = 'messages %}' %}",
    "{% set add_generation_prompt = true %}",
    "{{ messages|map(attribute='role')|join(',') }}",
    "{% if messages == 1 %}{% endif %}{{ messages is sequence }}",
];
const LOOPS: [&str; 12] = [
    "{% for m in messages %}",
    "{%- for m in messages -%}\n",
    "{% set rest = messages[1:] %}{% for m in rest %}",
    "{% set messages = messages[2:] %}{% for m in messages %}",
    "{% if messages[0].role == 'system' %}{% set rest = messages[1:] %}{% else %}\
     {% set rest = messages %}{% endif %}{% for m in rest %}",
    "{% set rest = messages[1:] %}{{ rest[0].role }}{{ rest|length }}{% for m in rest %}",
    "{% for m in messages if m.role != 'system' %}",
    "{% for m in messages|list %}",
    "{% for m in messages[:-1] %}",
    "{% for n in [1, 2] %}{% for m in messages %}{% if loop.first %}{{ n }}{% endif %}",
    "{% for m in messages recursive %}",
    "{% for m in messages[1:] %}",
];
const BODIES: [&str; 22] = [
    "<{{ m.role }}>{{ m.content }}\n",
    "{% if loop.last %}LAST{% endif %}",
    "{% if not loop.last %}sep{% endif %}",
    "{{ 'a' if loop.last else 'b' }}{{ loop.last }}",
    "{% if loop.first %}F{% endif %}{{ loop.index0 }}",
    "{% if messages[loop.index0 + 1].role == 'tool' %}next{% endif %}",
    "{% if loop.index0 > 0 and messages[loop.index0 - 1].role == m.role %}same{% endif %}",
    "{{ messages[loop.index0 - 1].role }}",
    "{% if loop.index == messages|length %}end{% endif %}",
    "{% if m.content == 'stop' %}{% break %}{% endif %}",
    "{% if m.role == 'system' %}{% continue %}{% endif %}",
    "{% set x = m.content %}{{ x|trim }}",
    "{% for c in m.tool_calls or [] %}{{ c.name }}{% if not loop.last %},{% endif %}{% endfor %}",
    "{{ loop.previtem.role if loop.previtem else '-' }}",
    "{% if add_generation_prompt and loop.last %}G{% endif %}",
    "{{ loop.revindex }}{{ loop.length }}",
    "{{ loop.nextitem.role if loop.nextitem else '' }}",
    "{% set ns.n = ns.n + 1 %}",
    "{% set l = loop %}{{ l.last }}",
    "{{ loop['last'] }}",
    "{% if m.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}",
    "{{ loop.changed(m.role) }}{{ loop.cycle('a', 'b') }}",
];
const AFTER: [&str; 12] = [
    "",
    "{% if add_generation_prompt %}<assistant>{% endif %}",
    "{% if add_generation_prompt %}<a>{% else %}{{ eos_token }}{% endif %}",
    "{{ x }}{{ m }}",
    "{% if messages[-1].role == 'user' %}?{% endif %}",
    "{% if tools and add_generation_prompt %}T{% endif %}",
    "{{ ns.n }}",
    "{{ messages|length }}",
    "{% for m in messages %}again{% endfor %}",
    "{% if add_generation_prompt %}{{ raise_exception('no prompt') }}{% endif %}",
    "{% set eos_token = tools %}{% if add_generation_prompt %}{{ eos_token }}{% endif %}",
    "{{ '{% endfor %}' }}{{ {'a': {'b': 1}}.a.b }}",
];

#[test]
fn templates_of_all_parts_write_the_prefixes_that_one_rendering_tells() {
    let conversations: Vec<Conversation> = conversations().into_iter().step_by(4).collect();
    let (mut told, mut possible) = (0, 0);
    for number in 0..3000 {
        let stream = Stream::new(13).number(number);
        let pick = |at: u64, from: &[&'static str]| {
            // The first parts are the usual ones.
            let below = if stream.bits(at + 100).is_multiple_of(3) { 2 } else { from.len() as u64 };
            from[usize::try_from(stream.bits(at) % below).unwrap()]
        };
        let start = pick(1, &LOOPS);
        let end = "{% endfor %}".repeat(start.matches("{% for").count().max(1));
        let bodies: String = (3..4 + stream.bits(2) % 3).map(|at| pick(at, &BODIES)).collect();
        let source = format!("{}{start}{bodies}{end}{}", pick(0, &BEFORE), pick(9, &AFTER));
        if ChatTemplate::new(&source, "t.jinja", special()).is_ok() {
            possible += 1;
            told += usize::from(compare(&source, &conversations) > 0);
        }
    }
    assert!(possible > 2000 && told > 500, "{told} of {possible}");
}

#[test]
fn the_shape_is_found_in_the_source() {
    let rewritten = |source: &str| shape::shape(source, &special()).map(|shape| shape.source);
    let plain = "{% for m in messages %}{{ m.content }}{% endfor %}";
    assert_eq!(rewritten(plain).unwrap(), plain);
    assert_eq!(
        rewritten("{%set a=messages[1:]%}{%for m in a%}{{not loop.last}}{%endfor%}").unwrap(),
        "{%set a=__turns.rest(messages, 1)%}{%for m in a%}{{not __turns.last(loop)}}{%endfor%}"
    );
    for other in [
        "",
        "{{ messages }}",
        "{% for m in messages %}{% endfor %}{{ messages[0] }}",
        "{% for m in messages %}{{ loop }}{% endfor %}",
        "{% for m in messages %}{{ add_generation_prompt }}{% endfor %}",
        "{% macro a() %}{% endmacro %}{% for m in messages %}{% endfor %}",
        "{% set x %}{% for m in messages %}{% endfor %}{% endset %}",
        "{% for m in messages %}{% else %}none{% endfor %}",
        "{% for m in messages %}{{ 'a }}{% endfor %}",
        "{% for m in messages %}{% endif %}{% endfor %}",
        "{% for messages in messages %}{% endfor %}",
        "{% raw %}{% for m in messages %}{% endraw %}{% endfor %}",
    ] {
        assert_eq!(rewritten(other), None, "{other}");
    }
}
