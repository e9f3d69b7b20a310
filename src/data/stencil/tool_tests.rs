//! The same of conversations with tools and calls, with other fields, with marks.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::tests::{Numbers, STYLES, put_together};
use super::*;
use crate::data::handed::hand;
use crate::data::template::ChatTemplate;

const TEXTS: [&str; 16] = [
    "yes",
    "it is 7 degrees",
    "{\"degrees\": 7}",
    "gr\u{fc}n \u{1f389}",
    "a \"quoted\" \\ text",
    "None",
    "weather",
    " x\n",
    "</think>",
    "<|im_end|>",
    "tool",
    "\u{7f}",
    "{'city':",
    "Oslo",
    "\u{2003}",
    "time",
];

/// Templates that write tools, calls and other fields in one of the ways of families in use.
const TEMPLATES: [&str; 7] = [
    // As Qwen 2.5: answers of tools stand in a turn of the user.
    "{%- if tools %}{{- '<s>system\\n' }}{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}\
     {%- endfor %}{{- '<e>\\n' }}{%- endif %}{%- for m in messages %}\
     {%- if m.role == 'user' or m.role == 'system' or (m.role == 'assistant' and not m.tool_calls) \
     %}{{- '<s>' + m.role + '\\n' + m.content + '<e>\\n' }}{%- elif m.role == 'assistant' %}\
     {{- '<s>' + m.role }}{%- if m.content %}{{- '\\n' + m.content }}{%- endif %}\
     {%- for call in m.tool_calls %}{%- if call.function is defined %}{%- set call = call.function \
     %}{%- endif %}{{- '\\n<call>{\"name\": \"' }}{{- call.name }}{{- '\", \"arguments\": ' }}\
     {{- call.arguments | tojson }}{{- '}</call>' }}{%- endfor %}{{- '<e>\\n' }}\
     {%- elif m.role == 'tool' %}\
     {%- if loop.index0 == 0 or messages[loop.index0 - 1].role != 'tool' %}{{- '<s>user' }}\
     {%- endif %}{{- '\\n<answer>' }}{{- m.content }}{{- '</answer>' }}\
     {%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}{{- '<e>\\n' }}{%- endif %}\
     {%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{- '<s>assistant\\n' }}{%- endif %}",
    // All as JSON, and what a template does with single values of tools and arguments.
    "{% if tools is not none %}{{ tools | tojson(indent=2) }}{% for t in tools %}\
     {% set f = t.function if t.function is defined else t %}[{{ f.name }}: {{ f.description }}]\
     {% if 'parameters' in f and f.parameters.properties %}{{ f.parameters | tojson }}{% endif %}\
     {% endfor %}{% endif %}{% for m in messages %}<{{ m.role }}>{% if m.content is string %}\
     {{ m.content }}{% endif %}{% if m.tool_calls is defined %}{{ m.tool_calls | tojson }}{% \
     endif %}\
     {% if m.name is defined %}({{ m.name }}){% endif %}</{{ m.role }}>{% endfor %}\
     {% if add_generation_prompt %}<assistant>{% endif %}",
    // As DeepSeek V3: arguments are JSON text.
    "{% for m in messages %}{% if m.role == 'user' %}{{ '<U>' + m.content }}{% elif m.role == \
     'assistant' and 'tool_calls' in m %}{% for c in m['tool_calls'] %}{{ '<A>' + c['type'] + \
     c['function']['name'] + '\\n' + c['function']['arguments'] + '<C>' }}{% endfor %}{{ '<E>' }}\
     {% elif m.role == 'assistant' %}{{ '<A>' + m.content + '<E>' }}{% else %}{{ '<' ~ m.role ~ \
     '>' \
     ~ m.content }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<A>' }}{% endif %}",
    // Marks, one of which holds several turns.
    "{%- for m in messages %}{%- if m.role == 'assistant' %}{{- '<A>' }}{%- generation %}\
     {%- if m.content %}{{- m.content }}{%- endif %}{%- for c in m.tool_calls or [] %}\
     {{- '<C>' + c.function.name }}{{- c.function.arguments | tojson(ensure_ascii=true) }}\
     {%- endfor %}{{- '<E>' }}{%- endgeneration %}{%- else %}{{- '<' ~ m.role ~ '>' ~ m.content }}\
     {%- endif %}{%- endfor %}{%- if not add_generation_prompt %}{%- generation %}{{ '<Z>' }}\
     {%- endgeneration %}{%- endif %}",
    // As Phi 3: the whole text ends with a token of its own.
    "{% for m in messages %}{{ '<|' ~ m.role ~ '|>\\n' ~ (m.content or '') ~ '<|end|>\\n' }}\
     {% for c in m.tool_calls or [] %}{{ c.function | tojson }}{% endfor %}{% endfor %}\
     {% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ '<|endoftext|>' }}{% \
     endif %}",
    // As Qwen 3: what was thought is written of the last turns alone.
    "{%- set ns = namespace(last=messages | length - 1, found=false) %}{%- for m in \
     messages[::-1] %}\
     {%- set at = (messages | length - 1) - loop.index0 %}{%- if not ns.found and m.role == \
     'user' %}\
     {%- set ns.found = true %}{%- set ns.last = at %}{%- endif %}{%- endfor %}\
     {%- for m in messages %}{{- '<s>' + m.role + '\\n' }}{%- set content = m.content if \
     m.content is \
     string else '' %}{%- if m.role == 'assistant' and loop.index0 > ns.last and (loop.last or \
     m.reasoning_content) %}{{- '<think>' ~ (m.reasoning_content or '') ~ '</think>' }}{%- endif %}\
     {{- content }}{%- for c in m.tool_calls or [] %}{{- '<call>' + c.function.name }}\
     {{- c.function.arguments | tojson }}{%- endfor %}{{- '<e>\\n' }}{%- endfor %}\
     {%- if add_generation_prompt %}{{- '<s>assistant\\n' }}{%- endif %}",
    // What is refused for some of the roles, and arguments one by one.
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system text') }}\
     {% endif %}<{{ m.role }}>{{ m.content or '' }}{% for c in m.tool_calls or [] %}\
     {{ c.function.name }}({% for k in ['city', 'unit'] %}{% if k in c.function.arguments %}\
     {{ k }}={{ c.function.arguments[k] }}{% endif %}{% endfor %}){% endfor %}{% endfor %}\
     {% if add_generation_prompt %}<assistant>{% endif %}",
];

impl Numbers {
    fn text(&mut self) -> &'static str {
        TEXTS[self.below(TEXTS.len())]
    }

    /// A value as arguments have it.
    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth == 0 { 7 } else { 9 }) {
            0 => json!(self.below(1000)),
            1 => json!(0.1 * f64::from(u32::try_from(self.below(100)).unwrap())),
            2 => json!(1e300),
            3 => json!(self.below(2) == 0),
            4 => json!(null),
            7 => (0..self.below(3)).map(|_| self.value(depth - 1)).collect(),
            8 => {
                let fields = (0..self.below(3)).map(|_| (self.text(), self.value(depth - 1)));
                fields
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect::<BTreeMap<_, _>>()
                    .into_iter()
                    .collect()
            }
            _ => json!(self.text()),
        }
    }

    fn arguments(&mut self) -> Value {
        let mut arguments = json!({});
        for key in ["city", "unit", "q\"", "tool"] {
            if self.below(2) == 0 {
                arguments[key] = self.value(2);
            }
        }
        match self.below(4) {
            0 => json!(arguments.to_string()),
            _ => arguments,
        }
    }

    fn tools(&mut self) -> Value {
        let tool = |numbers: &mut Self| {
            let mut function = json!({ "name": numbers.text(), "description": numbers.text() });
            if numbers.below(3) > 0 {
                let properties = json!({ (numbers.text()): { "type": "string" } });
                function["parameters"] = json!({ "type": "object", "properties": properties });
            }
            match numbers.below(4) {
                0 => function,
                _ => json!({ "type": "function", "function": function }),
            }
        };
        (0..1 + self.below(2)).map(|_| tool(self)).collect()
    }

    fn call(&mut self, message: &mut Value) {
        let calls: Vec<Value> = (0..1 + self.below(2))
            .map(|number| {
                let function = json!({ "name": self.text(), "arguments": self.arguments() });
                json!({ "id": format!("call_{number}"), "type": "function", "function": function })
            })
            .collect();
        message["tool_calls"] = calls.into();
        match self.below(3) {
            0 => message["content"] = json!(null),
            1 => message["content"] = json!(""),
            _ => {}
        }
    }

    fn rich(&mut self) -> Conversation {
        let orders: [&[&str]; 6] = [
            &["user", "assistant"],
            &["user", "assistant", "tool", "assistant"],
            &["system", "user", "assistant", "tool", "tool", "assistant"],
            &["user", "assistant", "user", "assistant", "user", "assistant"],
            &["user", "assistant", "tool", "assistant", "user", "assistant"],
            &["tool", "assistant", "assistant", "user"],
        ];
        let roles = orders[self.below(6)];
        let hard = self.below(3) == 0;
        let mut messages = Vec::new();
        for (index, role) in roles.iter().enumerate() {
            let content = if hard {
                self.text().to_owned()
            } else {
                format!("{} {index}q", ["so", "it is", "w"][self.below(3)])
            };
            let mut message = json!({ "role": role, "content": content });
            let calls = roles.get(index + 1) == Some(&"tool") && *role != "tool";
            if calls || self.below(9) == 0 {
                self.call(&mut message);
            }
            if *role == "tool" && self.below(2) == 0 {
                message["name"] = json!(self.text());
            }
            if self.below(8) == 0 {
                message["reasoning_content"] = json!(self.text());
                message["thinking"] = message["reasoning_content"].clone();
            }
            match self.below(24) {
                0 => message["lang"] = json!("en"),
                1 => message["time"] = json!(self.below(1000)),
                2 => message["name"] = json!(self.text()),
                3 => message["tags"] = json!([self.text()]),
                4 => message["content"] = json!([{ "type": "text", "text": self.text() }]),
                _ => {}
            }
            messages.push(message);
        }
        let tools = (self.below(2) == 0).then(|| self.tools());
        let mut not_targets = BTreeSet::new();
        if self.below(8) == 0 {
            not_targets.insert(1);
        }
        let template_args = match self.below(12) {
            0 => json!({ "enable_thinking": false }),
            1 => json!({ "bos_token": "<b>", "x": 1.5 }),
            _ => json!({}),
        };
        let template_args = template_args.as_object().unwrap().clone();
        Conversation { messages, tools, template_args, not_targets }
    }
}

#[test]
fn rich_conversations_are_filled_as_they_are_rendered() {
    let mut counts = BTreeMap::new();
    let own = TEMPLATES.iter().enumerate().map(|(number, source)| (number.to_string(), *source));
    let styles = STYLES.iter().map(|(name, source)| ((*name).to_owned(), *source));
    for (name, source) in own.chain(styles) {
        let special = [("bos_token", "<s>"), ("eos_token", "</s>")];
        let special = special.map(|(name, token)| (name.to_owned(), token.to_owned())).into();
        let template = ChatTemplate::new(source, &name, special).unwrap();
        let stencils = Stencils::new(template.has_marks());
        let mut numbers = Numbers(3);
        let mut count = [0, 0];
        for round in 0..600 {
            let conversation = numbers.rich();
            let find_turns = round % 6 != 0;
            let expected = hand(&template, &conversation, find_turns);
            let Ok((_, expected)) = expected else {
                let found = put_together(&stencils, &template, &conversation, find_turns);
                assert!(found.is_none(), "{name}\n{conversation:?}");
                continue;
            };
            count[1] += 1;
            let Some(found) = put_together(&stencils, &template, &conversation, find_turns) else {
                continue;
            };
            assert_eq!(found, expected, "{name}\n{conversation:?}");
            count[0] += 1;
        }
        counts.insert(name, count);
    }
    for (name, [filled, of]) in &counts {
        assert!(name.parse::<usize>().is_err() || 5 * filled > *of, "{name}: {counts:?}");
    }
}
