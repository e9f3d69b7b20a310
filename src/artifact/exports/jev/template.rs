//! `decision_template.jinja`: what transformers writes of a request, up to the token at which the
//! head reads. It is the text that a classifier is trained on and `firebrand classify` scores: a
//! plain text begun as the tokenizer begins one, or a conversation written by the model's own chat
//! template. Questions that the model cannot answer are refused there.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::data::{Codec, TEMPLATE_DATE, TemplateRenderer, TemplateText};
use crate::error::{Error, ErrorCode, Result};

/// The token before which the head reads.
const MARK: &str = "<|mark|>";
/// What `strftime` writes of a date, longer ones first: they hold the shorter ones.
const DIRECTIVES: [&str; 22] = [
    "%-d", "%-m", "%-H", "%-I", "%d", "%e", "%m", "%y", "%Y", "%b", "%B", "%a", "%A", "%j", "%H",
    "%I", "%M", "%S", "%p", "%D", "%F", "%T",
];
/// What a model may be handed by name though nobody says so.
const THINKING: &str = "enable_thinking";
/// A name that has no value, to take that of another.
const UNDEFINED: &str = "not_given";
/// Texts by which it is seen whether a beginning does what the tokenizer does.
const PROBES: [&str; 7] = ["a", " a", "  a b", "\na", "\u{e9}1", "\u{2581}a", "A. b\n"];

/// What stands before a plain text, which a chat template's text has no need of: tokens that the
/// tokenizer puts there by itself, where it is not told to leave them out.
#[derive(Debug, PartialEq)]
struct Beginning {
    /// The tokens, as text.
    prefix: String,
    /// Texts before which nothing stands between them and the prefix, where others get a space: of
    /// some tokenizers a text gets one only where nothing precedes it.
    spaced: Option<Vec<String>>,
}

impl Beginning {
    /// What stands before the text of each request.
    ///
    /// # Errors
    /// When no text of a template does what the tokenizer does.
    fn find(codec: &Codec) -> Result<Option<Self>> {
        let tokenizer = &codec.tokenizer;
        if tokenizer.prefix().is_empty() {
            return Ok(None);
        }
        let names = tokenizer.prefix().iter().map(|token| tokenizer.token_name(*token));
        let prefix: String = names.flatten().collect();
        let mut with_space = vec![" ".to_owned(), "\u{2581}".to_owned()];
        with_space.extend(tokenizer.special_texts());
        for spaced in [None, Some(with_space)] {
            let beginning = Self { prefix: prefix.clone(), spaced };
            let mut same = true;
            for probe in PROBES.map(str::to_owned).into_iter().chain([format!("{prefix}a")]) {
                let begun = tokenizer.encode(&beginning.before(&probe))?.tokens;
                same &= begun == codec.text_tokens(&probe)?;
            }
            if same {
                return Ok(Some(beginning));
            }
        }
        let what = "the tokenizer begins a text as no template can";
        let why = format!("it puts `{prefix}` before a text whose tokens are others behind it");
        Err(Error::export(what).because(why))
    }

    /// A text as the template begins it.
    fn before(&self, text: &str) -> String {
        if text.starts_with(&self.prefix) {
            return text.to_owned();
        }
        let is_apart = |texts: &Vec<String>| texts.iter().any(|begin| text.starts_with(begin));
        let space = self.spaced.as_ref().filter(|texts| !is_apart(texts)).map_or("", |_| " ");
        format!("{}{space}{text}", self.prefix)
    }

    /// The same as an expression of Jinja.
    fn expression(&self) -> String {
        let prefix = literal(&self.prefix.as_str().into());
        let space = self.spaced.as_ref().map_or(String::new(), |texts| {
            let texts: Vec<String> =
                texts.iter().map(|text| literal(&text.as_str().into())).collect();
            format!(" ~ (\"\" if state.startswith(({})) else \" \")", texts.join(", "))
        });
        format!("state if state.startswith({prefix}) else {prefix}{space} ~ state")
    }
}

/// The template of a model with these labels; `noul` says whether they answer a question of that
/// type.
///
/// # Errors
/// Those of the tokenizer, when no template can begin a text as it does, and when what comes of it
/// is no template: `args` may have names that are words of Jinja.
pub fn write(
    codec: &Codec,
    args: &BTreeMap<String, Value>,
    labels: &[String],
    noul: bool,
) -> Result<String> {
    let beginning = Beginning::find(codec)?;
    let plain = beginning.as_ref().map_or("state".to_owned(), Beginning::expression);
    let chat = codec.templates.of(false).map(|template| template.source());
    let mut out = of_questions(labels, noul);
    let date = chat.filter(|source| source.contains("strftime_now")).map(|_| date());
    out += &date.unwrap_or_default();
    let _ = writeln!(out, "{{%- if state is string -%}}\n{{{{- {plain} -}}}}");
    let refused = match chat {
        Some(source) => {
            out += "{%- elif state is sequence and state is not mapping -%}\n";
            out += &of_conversations(source, args);
            "the state must be a text or a list of messages"
        }
        None => "the state must be a text: the model has no chat template for messages",
    };
    let _ = write!(
        out,
        "{{%- else -%}}\n{}{{%- endif -%}}\n{{{{- {} -}}}}\n",
        raise(&literal(&refused.into())),
        literal(&MARK.into())
    );
    check(&out)?;
    Ok(out)
}

/// Whether it can be read.
fn check(template: &str) -> Result<()> {
    let text = TemplateText { source: template.to_owned(), origin: "template".to_owned() };
    let Err(error) = TemplateRenderer::new(text, BTreeMap::new()) else { return Ok(()) };
    if !matches!(error.code, ErrorCode::Template | ErrorCode::TemplateLimit) {
        return Err(error);
    }
    let what = "no template of decisions can be made of the chat template and its arguments";
    Err(error.causes.iter().fold(Error::export(what), |made, cause| made.because(cause)))
}

/// Refuses questions that the model cannot answer. The options are the labels: what others mean,
/// or in another order, it never learned.
fn of_questions(labels: &[String], noul: bool) -> String {
    let all: Vec<Value> = labels.iter().map(|label| label.as_str().into()).collect();
    let (types, named) = match noul {
        true => (r#"["choice", "noul"]"#, "`choice` and `noul`"),
        false => (r#"["choice"]"#, "`choice`"),
    };
    let of_type = format!("the model answers questions of the type {named} alone");
    let options = "\"the options must be all labels in their order: \" ~ decision_labels|tojson";
    format!(
        "{{%- set decision_labels = {} -%}}\n{{%- if question.type not in {types} -%}}\n{}\
         {{%- elif question.type == \"choice\" and question.options != decision_labels -%}}\n{}\
         {{%- endif -%}}\n",
        literal(&all.into()),
        raise(&literal(&of_type.as_str().into())),
        raise(options),
    )
}

/// The model's own template, with what it is handed in training in the place of what transformers
/// hands it here. The line end before it belongs to the block there, and is not written. What runs
/// hand over by name comes last: one of the names may be that of what is asked here.
fn of_conversations(source: &str, args: &BTreeMap<String, Value>) -> String {
    let mut sets =
        vec![("messages", "state".to_owned()), ("add_generation_prompt", "false".to_owned())];
    if source.contains(THINKING) {
        sets.push((THINKING, UNDEFINED.to_owned()));
    }
    sets.extend(args.iter().map(|(name, value)| (name.as_str(), literal(value))));
    let sets: String =
        sets.iter().map(|(name, value)| format!("{{%- set {name} = {value} %}}")).collect();
    // Jinja takes the last line end of a template for that of its file.
    let without_end = ["\r\n", "\n", "\r"].iter().find_map(|end| source.strip_suffix(end));
    let source = without_end.unwrap_or(source);
    format!("{sets}\n{source}{{{{ \"\" -}}}}\n")
}

/// Templates that ask for the date are told the one that they are told in training, and refused a
/// form of it that is not known here.
fn date() -> String {
    let now = TEMPLATE_DATE.at(0, 0, 0, 0);
    let replaced = DIRECTIVES
        .map(|directive| format!("|replace(\"{directive}\", \"{}\")", now.strftime(directive)));
    format!(
        "{{%- macro strftime_now(format) -%}}\n{{%- set written = format{} -%}}\n\
         {{%- if \"%\" in written -%}}\n{}{{%- endif -%}}\n{{{{- written -}}}}\n\
         {{%- endmacro -%}}\n",
        replaced.concat(),
        raise("\"the date cannot be written in this form: \" ~ format"),
    )
}

/// Ends with a message.
fn raise(message: &str) -> String {
    format!("{{{{- raise_exception({message}) -}}}}\n")
}

/// A value as Jinja has it: as JSON, but for its name of nothing.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(literal).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| format!("{}: {}", Value::from(name.as_str()), literal(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::data::{ChatTemplate, Conversation, Turns};

    fn codec() -> Codec {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizer");
        Codec::load(&folder, None).unwrap()
    }

    fn labels() -> Vec<String> {
        ["large", "\"small\""].map(str::to_owned).to_vec()
    }

    /// What a decision template writes of a state, and of a question with these options.
    fn written(template: &str, state: Value, options: &[&str]) -> Result<String, String> {
        let question = json!({ "type": "choice", "options": options });
        let args = [("state", state), ("question", question), ("enable_thinking", json!(false))];
        let args = args.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        let messages = vec![json!({ "role": "user", "content": "" })];
        let conversation =
            Conversation { messages, template_args: args, ..Conversation::default() };
        let template = ChatTemplate::new(template, "template", BTreeMap::new()).unwrap();
        template.render(&Turns::new(&conversation), 1, true)
    }

    #[test]
    fn states_are_written_as_the_model_is_trained_on_them() {
        let codec = codec();
        let template = write(&codec, &BTreeMap::new(), &labels(), false).unwrap();
        let options = ["large", "\"small\""];
        let text = " a {{ b }}\n";
        assert_eq!(written(&template, json!(text), &options).unwrap(), format!("{text}<|mark|>"));
        let messages = json!([
            { "role": "system", "content": " Sort it.\n" },
            { "role": "user", "content": "\na" },
            { "role": "assistant", "content": "b " },
        ]);
        let conversation = Conversation {
            messages: messages.as_array().unwrap().clone(),
            ..Conversation::default()
        };
        let own = codec.chat_template().unwrap();
        let own = own.write(&conversation, 3, false).unwrap().unwrap();
        assert_eq!(written(&template, messages, &options).unwrap(), format!("{own}<|mark|>"));
    }

    #[test]
    fn a_chat_template_is_handed_what_it_is_in_training() {
        // Its white space at both ends, a date, and names that nobody gives it.
        let source = "  {% if true %}\n[{{ strftime_now('%d %b %Y') }}]{{ add_generation_prompt }}\
                      {{ enable_thinking is defined }}{{ none_of_it is none }}{% endif %}\n\n";
        let args = BTreeMap::from([("none_of_it".to_owned(), Value::Null)]);
        let template = date() + &of_conversations(source, &args);
        let messages = json!([{ "role": "user", "content": "a" }]);
        assert_eq!(written(&template, messages, &[]).unwrap(), "[26 Jul 2024]FalseFalseTrue");
    }

    #[test]
    fn dates_are_written_as_in_training_or_refused() {
        let messages = vec![json!({ "role": "user", "content": "" })];
        let conversation = Conversation { messages, ..Conversation::default() };
        for directive in DIRECTIVES {
            let source = format!("{{{{ strftime_now('a {directive}') }}}}");
            let own = ChatTemplate::new(&source, "template", BTreeMap::new()).unwrap();
            let own = own.render(&Turns::new(&conversation), 1, false).unwrap();
            assert_eq!(written(&(date() + &source), json!([]), &[]).unwrap(), own, "{directive}");
        }
        for format in ["%d %Q", "%%", "%-M"] {
            let template = date() + &format!("{{{{ strftime_now('{format}') }}}}");
            assert!(written(&template, json!([]), &[]).is_err(), "{format}");
        }
    }

    #[test]
    fn a_name_may_be_that_of_what_is_asked() {
        let args = [("state", "x y"), ("not_given", "z"), ("question", "b")];
        let args = args.map(|(name, value)| (name.to_owned(), Value::from(value))).into();
        let source = "{{ messages[0].content }} {{ state }} {{ enable_thinking is defined }}";
        let messages = json!([{ "role": "user", "content": "a" }]);
        let template = of_conversations(source, &args);
        assert_eq!(written(&template, messages, &[]).unwrap(), "a x y False");
    }

    #[test]
    fn names_that_are_words_of_jinja_are_refused() {
        let args = BTreeMap::from([("none".to_owned(), Value::from(1))]);
        let error = write(&codec(), &args, &labels(), false).unwrap_err();
        crate::snapshots::says(
            error,
            snapbox::str![[r#"
error[export]: no template of decisions can be made of the chat template and its arguments
  because cannot assign to reserved variable name none
"#]],
        );
    }

    #[test]
    fn questions_that_the_model_did_not_learn_are_refused() {
        let template = of_questions(&labels(), false);
        assert_eq!(written(&template, json!("a"), &["large", "\"small\""]).unwrap(), "");
        for options in [&["\"small\"", "large"][..], &["large"]] {
            snapbox::assert_data_eq!(
                written(&template, json!("a"), options).unwrap_err(),
                snapbox::str![[
                    r#"the options must be all labels in their order: ["large", "/"small/""] (line 5 of the template)"#
                ]]
            );
        }
    }

    /// A tokenizer that puts `<s>` before a text and marks spaces as SentencePiece does, also
    /// before its first word where `scheme` says so.
    fn codec_that_begins(scheme: &str) -> Codec {
        let special = |id: u32, content: &str| {
            json!({ "id": id, "content": content, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true })
        };
        let begin = json!({ "SpecialToken": { "id": "<s>", "type_id": 0 } });
        let text = json!({ "Sequence": { "id": "A", "type_id": 0 } });
        let tokenizer = json!({
            "version": "1.0", "normalizer": null, "decoder": null,
            "added_tokens": [special(0, "<unk>"), special(1, "<s>")],
            "pre_tokenizer": { "type": "Metaspace", "replacement": "\u{2581}",
                               "prepend_scheme": scheme, "split": false },
            "post_processor": { "type": "TemplateProcessing", "single": [begin, text],
                                "pair": [begin, text], "special_tokens":
                { "<s>": { "id": "<s>", "ids": [1], "tokens": ["<s>"] } } },
            "model": { "type": "BPE", "dropout": null, "unk_token": "<unk>",
                       "continuing_subword_prefix": null, "end_of_word_suffix": null,
                       "fuse_unk": false, "byte_fallback": false,
                       "vocab": { "<unk>": 0, "<s>": 1, "\u{2581}": 2, "a": 3, "\u{2581}a": 4 },
                       "merges": [["\u{2581}", "a"]] },
        });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        Codec::load(folder.path(), None).unwrap()
    }

    #[test]
    fn a_text_begins_as_the_tokenizer_begins_it() {
        let spaced = [" ", "\u{2581}", "<unk>", "<s>"].map(str::to_owned).to_vec();
        for (scheme, spaced) in [("always", None), ("never", None), ("first", Some(spaced))] {
            let found = Beginning::find(&codec_that_begins(scheme)).unwrap();
            assert_eq!(found, Some(Beginning { prefix: "<s>".to_owned(), spaced }), "{scheme}");
        }
        let beginning = Beginning::find(&codec_that_begins("first")).unwrap().unwrap();
        for (text, begun) in [("a", "<s> a"), (" a", "<s> a"), ("<s>a", "<s>a"), ("b", "<s> b")] {
            assert_eq!(beginning.before(text), begun);
        }
        assert_eq!(
            beginning.expression(),
            "state if state.startswith(\"<s>\") else \"<s>\" ~ (\"\" if \
             state.startswith((\" \", \"\u{2581}\", \"<unk>\", \"<s>\")) else \" \") ~ state"
        );
        let template =
            write(&codec_that_begins("always"), &BTreeMap::new(), &labels(), false).unwrap();
        let options = ["large", "\"small\""];
        for (text, written_text) in [("a", "<s>a<|mark|>"), ("<s>a", "<s>a<|mark|>")] {
            assert_eq!(written(&template, json!(text), &options).unwrap(), written_text);
        }
        snapbox::assert_data_eq!(
            written(&template, json!(["a"]), &options).unwrap_err(),
            snapbox::str![
                "the state must be a text: the model has no chat template for messages (line 10 of the template)"
            ]
        );
    }
}
