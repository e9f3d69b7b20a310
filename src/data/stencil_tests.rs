//! What is put together from stencils is what templates write.

use std::collections::BTreeMap;

use super::*;

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

/// Templates of our own in the styles of families in use: name, source, and whether a stencil is
/// found for most conversations that begin with the user and take turns.
const STYLES: [(&str, &str); 16] = [
    (
        "llama 3",
        r#"{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_first is defined %}
    {%- set tools_first = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "01 Jan 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The system text is written first. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start|>system<|end|>\n\n" }}
{%- if tools is not none %}
    {{- "Tools: " }}
{%- endif %}
{{- "Knowledge until: some day\nToday: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start|>' + message['role'] + '<|end|>\n\n'+ message['content'] | trim + '<|eot|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("one call at once") }}
        {%- endif %}
        {{- message.tool_calls[0].function | tojson }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant<|end|>\n\n' }}
{%- endif %}
"#,
    ),
    (
        "qwen 2.5",
        r#"{%- if tools %}
    {{- '<|im_start|>system\n' }}{{- messages[0]['content'] }}{{- tools | tojson }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>system\nYou help.<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}{%- set tool_call = tool_call.function %}{%- endif %}
            {{- tool_call.arguments | tojson }}
        {%- endfor %}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}{{- message.content }}{{- '\n</tool_response>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"#,
    ),
    (
        "qwen 3",
        r#"{%- if tools %}
    {{- tools | tojson }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi=true, last_query=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi = false %}
        {%- set ns.last_query = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query %}
            {%- if reasoning_content %}
                {{- '<|im_start|>' + message.role + '\n<think>\n' + reasoning_content.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}{{- tool_call | tojson }}{%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- content }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
"#,
    ),
    (
        "mistral",
        r#"{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user" or (message["role"] == "assistant" and message.tool_calls is not defined)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("roles must take turns") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- tools }}
        {%- endif %}
        {%- if loop.first and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token }}
    {%- else %}
        {{- raise_exception("only user and assistant roles are known") }}
    {%- endif %}
{%- endfor %}
"#,
    ),
    (
        "ministral",
        r#"{{- bos_token }}{%- set default_system = 'You are here to help.' %}
{%- if messages[0]['role'] == 'system' %}
    {%- if messages[0]['content'] is string %}{%- set system = messages[0]['content'] %}{%- else %}{%- set system = messages[0]['content'][0]['text'] %}{%- endif %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system = default_system %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- '[SYSTEM_PROMPT]' + system + '[/SYSTEM_PROMPT]' }}
{%- for message in loop_messages %}
    {%- if message['role'] == 'user' %}
        {%- if message['content'] is string %}
            {{- '[INST]' + message['content'] + '[/INST]' }}
        {%- else %}
            {%- for block in message['content'] %}{{- block['text'] }}{%- endfor %}
        {%- endif %}
    {%- elif message['role'] == 'system' %}
        {{- '[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]' }}
    {%- elif message['role'] == 'assistant' %}
        {{- message['content'] + eos_token }}
    {%- else %}
        {{- raise_exception('unknown role') }}
    {%- endif %}
{%- endfor %}
"#,
    ),
    (
        "gemma 2",
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}\
         {% endif %}{% for message in messages %}{% if (message['role'] == 'user') != \
         (loop.index0 % 2 == 0) %}{{ raise_exception('roles must take turns') }}{% endif %}\
         {% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}\
         {% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\\n' + \
         message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if \
         add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}",
    ),
    (
        "gemma 3",
        r#"{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("roles must take turns") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("unknown content") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"#,
    ),
    (
        "phi 3",
        "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}\
         {{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'user' \
         %}{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == \
         'assistant' %}{{'<|assistant|>\\n' + message['content'] + '<|end|>\\n'}}{% endif %}\
         {% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}\
         {{ eos_token }}{% endif %}",
    ),
    (
        "phi 4",
        "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message \
         and message['tools'] is not none %}{{ '<|' + message['role'] + '|>' + message['content'] + \
         message['tools'] + '<|end|>' }}{% else %}{{ '<|' + message['role'] + '|>' + \
         message['content'] + '<|end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}\
         {{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}",
    ),
    (
        "smollm 2",
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
         {{ '<|im_start|>system\\nYou are small.<|im_end|>\\n' }}{% endif %}{{'<|im_start|>' + \
         message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}\
         {% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    ),
    (
        "smollm 3",
        r#"{%- if enable_thinking is not defined -%}{%- set enable_thinking = true -%}{%- endif -%}
{%- if enable_thinking -%}{%- set mode = "/think" -%}{%- else -%}{%- set mode = "/no_think" -%}{%- endif -%}
{{- "<|im_start|>system\n" -}}
{%- if messages[0].role == "system" -%}
    {%- set system_message = messages[0].content -%}
    {%- if "/no_think" in system_message -%}
        {%- set mode = "/no_think" -%}
    {%- elif "/think" in system_message -%}
        {%- set mode = "/think" -%}
    {%- endif -%}
    {%- set instructions = system_message.replace("/no_think", "").replace("/think", "").rstrip() -%}
{%- endif -%}
{%- if "/system_override" in system_message -%}
    {{- instructions.replace("/system_override", "").rstrip() -}}
{%- else -%}
    {{- "Mode: " + mode + "\n\n" -}}
    {%- if instructions -%}{{- instructions + "\n\n" -}}{%- else -%}{{- "You are small.\n\n" -}}{%- endif -%}
{%- endif -%}
{{- "<|im_end|>\n" -}}
{%- for message in messages -%}
    {%- set content = message.content if message.content is string else "" -%}
    {%- if message.role == "user" -%}
        {{ "<|im_start|>" + message.role + "\n"  + content + "<|im_end|>\n" }}
    {%- elif message.role == "assistant" -%}
        {%- if mode == "/think" -%}
            {{ "<|im_start|>assistant\n" + content.lstrip("\n") + "<|im_end|>\n" }}
        {%- else -%}
            {{ "<|im_start|>assistant\n" + "<think>\n\n</think>\n" + content.lstrip("\n") + "<|im_end|>\n" }}
        {%- endif -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {%- if mode == "/think" -%}{{ "<|im_start|>assistant\n" }}{%- else -%}{{ "<|im_start|>assistant\n<think>\n\n</think>\n" }}{%- endif -%}
{%- endif -%}
"#,
    ),
    (
        "granite",
        r#"{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = "Knowledge until: a day.\nToday is " + strftime_now('%B %d, %Y') + "." %}
    {%- if tools and documents %}
        {%- set system_message = system_message + " Tools and documents." %}
    {%- elif thinking %}
        {%- set system_message = system_message + " Think first." %}
    {%- endif %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- '<|role|>system<|end|>' + system_message + '<|text|>\n' }}
{%- if tools %}{{- tools | tojson(indent=4) }}{%- endif %}
{%- for message in loop_messages %}
    {{- '<|role|>' + message['role'] + '<|end|>' + message['content'] + '<|text|>\n' }}
    {%- if loop.last and add_generation_prompt %}
        {{- '<|role|>assistant' }}
        {%- if controls %}{{- ' ' + controls | tojson() }}{%- endif %}
        {{- '<|end|>' }}
    {%- endif %}
{%- endfor %}
"#,
    ),
    (
        "olmo and tulu",
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ \
         '<|system|>\\n' + message['content'] + '\\n' }}{% elif message['role'] == 'user' %}{{ \
         '<|user|>\\n' + message['content'] + '\\n' }}{% elif message['role'] == 'assistant' %}\
         {% if not loop.last %}{{ '<|assistant|>\\n' + message['content'] + eos_token + '\\n' }}\
         {% else %}{{ '<|assistant|>\\n' + message['content'] + eos_token }}{% endif %}{% endif %}\
         {% if loop.last and add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}{% endfor %}",
    ),
    (
        "zephyr",
        "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\\n' + \
         message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n{{ \
         '<|system|>\\n' + message['content'] + eos_token }}\n{% elif message['role'] == \
         'assistant' %}\n{{ '<|assistant|>\\n'  + message['content'] + eos_token }}\n{% endif %}\n\
         {% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n\
         {% endfor %}",
    ),
    (
        "deepseek",
        r#"{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, system_prompt='', is_first_sp=true) %}{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = false %}{%- else %}{% set ns.system_prompt = ns.system_prompt + '\n\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<|User|>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and message['tool_calls'] is defined and message['tool_calls'] is not none %}{{ message['tool_calls'] | tojson }}{%- elif message['role'] == 'assistant' %}{%- if ns.is_tool %}{{'<|outputs|>' + message['content'] + eos_token}}{%- set ns.is_tool = false -%}{%- else %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<|Assistant|>' + content + eos_token}}{%- endif %}{%- endif %}{%- endfor -%}{% if add_generation_prompt and not ns.is_tool %}{{'<|Assistant|>'}}{% endif %}"#,
    ),
    (
        "macros",
        r#"{%- macro render(content, number=0) %}
    {%- if content is string %}{{- content }}
    {%- else %}{%- for item in content %}{{- item.text }}{%- endfor %}{%- endif %}
{%- endmacro %}
{%- for message in messages %}
    {%- set content = render(message.content, 1)|trim %}
    {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
"#,
    ),
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
        let mut stencils: BTreeMap<String, Option<Stencil>> = BTreeMap::new();
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
            let Some(plain) = Plain::of(&conversation, find_turns) else { continue };
            let stencil = stencils
                .entry(plain.key())
                .or_insert_with(|| Stencil::new(&template, &plain.outline()));
            asked += usize::from(orderly && (system == 0 || name != "gemma 2"));
            let Some(found) = stencil.as_ref().and_then(|it| it.fill(&plain)) else { continue };
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
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
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
    let mut filled = [0; 6];
    for (number, source) in TEMPLATES.iter().enumerate() {
        let special = BTreeMap::from([("bos_token".to_owned(), "<s>".to_owned())]);
        let template = ChatTemplate::new(source, "t", special).unwrap();
        let mut numbers = Numbers(7);
        for round in 0..400 {
            let conversation = numbers.conversation();
            let find_turns = round % 4 != 0;
            let Some(plain) = Plain::of(&conversation, find_turns) else { continue };
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
    let mut filled = 0;
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
        let first = conversations.iter().find_map(|it| Plain::of(it, find_turns));
        let outline = first.map(|plain| plain.outline());
        let Some(stencil) = outline.and_then(|it| Stencil::new(&template, &it)) else { continue };
        for conversation in &conversations {
            let Some(plain) = Plain::of(conversation, find_turns) else { continue };
            let Some(found) = stencil.fill(&plain) else { continue };
            let expected = hand(&template, conversation, find_turns).map(|(_, handed)| handed);
            assert_eq!(Ok(found), expected, "{source}\n{conversation:?}");
            filled += 1;
        }
    }
    filled
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
        let unknown = ["upper", "tojson", "indent", "| e ", "[:3]", "* 2", "lower", "> '<'", "%s"];
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
