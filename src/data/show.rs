//! Examples as people read them: text, with what is trained on marked.

use serde::Serialize;

use super::codec::Codec;
use super::example::Example;
use super::formats::Conversation;
use super::maker::Maker;
use super::tokens::TextStream;
use super::unused::{RULE, Unused, judge};
use crate::config::DataConfig;
use crate::error::{Error, Result};

/// Consecutive tokens that are all trained on, or all given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExampleSpan {
    /// Their text, special tokens included.
    pub text: String,
    /// Whether they are trained on.
    pub target: bool,
    /// How many they are.
    pub tokens: usize,
}

/// An example in pieces; joined, their texts are the example's text.
///
/// A character that is spread over several tokens belongs to the piece of its last one.
pub fn pieces(codec: &Codec, example: &Example) -> Result<Vec<ExampleSpan>> {
    let mut stream = TextStream::new(false);
    let mut pieces: Vec<ExampleSpan> = Vec::new();
    for (&token, &target) in example.tokens.iter().zip(&example.loss_mask) {
        let text = stream.push(&codec.tokenizer, token)?;
        match pieces.last_mut() {
            Some(last) if last.target == target => {
                last.text += &text;
                last.tokens += 1;
            }
            _ => pieces.push(ExampleSpan { text, target, tokens: 1 }),
        }
    }
    if let Some(last) = pieces.last_mut() {
        last.text += &stream.finish(&codec.tokenizer)?;
    }
    Ok(pieces)
}

/// Two answers to the same, as the model would read them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rendered {
    /// The conversation with the better answer.
    pub chosen: String,
    /// The conversation with the worse answer.
    pub rejected: String,
}

/// The two conversations of a preference record, written out by the chat template, with the
/// settings of a run. What of them is not written is added to `unused`.
pub fn pair(
    codec: &Codec,
    config: &DataConfig,
    chosen: &Conversation,
    rejected: &Conversation,
    unused: &mut Vec<Unused>,
) -> Result<Rendered> {
    let maker = Maker::new(codec, config);
    let mut text = |conversation: &Conversation| {
        let template = codec.template_for(conversation.tools.is_some())?;
        let mut conversation = conversation.clone();
        maker.complete(&mut conversation);
        let handed = template.render(&[&conversation], false).map_err(|exceeded| exceeded.error)?;
        match handed.into_iter().next() {
            Some(Ok(handed)) => match judge(config.on_unused, &handed.unused) {
                Ok(()) => {
                    unused.extend(handed.unused);
                    Ok(handed.rendered.text)
                }
                Err(reason) => Err(Error::data(reason).hint(RULE)),
            },
            Some(Err(reason)) => Err(Error::data(reason).at(template.origin())),
            None => Err(Error::data("the conversation was not rendered").at(template.origin())),
        }
    };
    Ok(Rendered { chosen: text(chosen)?, rejected: text(rejected)? })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::detect::detect;
    use crate::data::example::RecordId;
    use crate::data::example::RecordOutcome;
    use crate::data::fixture::{codec, config};
    use crate::data::formats::{Content, FORMATS, Fields};
    use crate::data::sources;
    use crate::snapshots::says;

    fn content() -> Content {
        let record = serde_json::json!({"prompt": "2+2?", "chosen": "4", "rejected": "5"});
        let format = FORMATS.iter().find(|format| format.name() == "preference").unwrap();
        format.read(&mut record.as_object().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_pair_is_shown_as_the_model_would_read_it() {
        let Content::Preference { chosen, rejected } = content() else { panic!() };
        let config = config(&[Path::new("a.jsonl")]);
        let pair = pair(&codec(), &config, &chosen, &rejected, &mut Vec::new()).unwrap();
        let start = "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n";
        assert_eq!(pair.chosen, format!("{start}4<|im_end|>\n"));
        assert_eq!(pair.rejected, format!("{start}5<|im_end|>\n"));
    }

    #[test]
    fn training_on_pairs_says_what_to_do_instead() {
        let (codec, config) = (codec(), config(&[Path::new("a.jsonl")]));
        let record = RecordId { file: "a.jsonl".into(), line: 3 };
        let maker = Maker::new(&codec, &config);
        let error = maker.make(content(), Fields::new(), &record).unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[pairs]: the objective does not learn from pairs of answers
  at a.jsonl:3:1

hint: with `columns = { messages = "chosen" }` and `format = "messages"` the chosen answers are trained on
"#]],
        );
    }

    /// The contents of a data set of the repository, whose shape must be told from it alone.
    fn contents(name: &str, shape: &str) -> Vec<Content> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets").join(name);
        let records = sources::open(&path).unwrap().next_batch().unwrap();
        let choice = detect(&path, &records, crate::config::FormatChoice::Auto).unwrap().unwrap();
        assert_eq!(choice.format.name(), shape, "{name}");
        let read =
            |record: sources::Record| choice.format.read(&mut record.content.unwrap()).unwrap();
        records.into_iter().map(read).collect()
    }

    /// What is trained on of each record.
    fn target(contents: &[Content]) -> Vec<Vec<String>> {
        let (codec, mut config) = (codec(), config(&[Path::new("a.jsonl")]));
        config.max_seq_len = 4096;
        let maker = Maker::new(&codec, &config);
        let record = RecordId { file: "a.jsonl".into(), line: 1 };
        let target = |content: &Content| match maker
            .make(content.clone(), Fields::new(), &record)
            .unwrap()
            .outcome
        {
            RecordOutcome::Whole(example) => {
                let pieces = pieces(&codec, &example).unwrap();
                pieces.into_iter().filter(|piece| piece.target).map(|piece| piece.text).collect()
            }
            other => panic!("{other:?}"),
        };
        contents.iter().map(target).collect()
    }

    #[test]
    fn the_set_of_each_new_shape_is_read_and_its_answers_are_target() {
        let tools = target(&contents("tools.jsonl", "messages"));
        assert_eq!(tools.len(), 16);
        assert_eq!(
            tools[0],
            [
                "\n<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"Amman\"}}\
                 </tool_call><|im_end|>",
                "In Amman it is 9 degrees and rainy.<|im_end|>"
            ]
        );
        // The arguments are JSON text in the record, and an object to the template.
        assert!(tools[3][0].contains("\"arguments\": {\"city\": \"Vienna\"}"), "{:?}", tools[3]);
        let sharegpt = target(&contents("sharegpt.jsonl", "sharegpt"));
        assert_eq!(sharegpt[0], ["Red and yellow make orange.<|im_end|>"]);
        assert_eq!(sharegpt.iter().map(Vec::len).sum::<usize>(), 31);
        let pairs = contents("preference.jsonl", "preference");
        assert_eq!(pairs.len(), 16);
        for content in pairs {
            let Content::Preference { chosen, rejected } = content else { panic!() };
            let config = config(&[Path::new("a.jsonl")]);
            let pair = pair(&codec(), &config, &chosen, &rejected, &mut Vec::new()).unwrap();
            assert!(pair.chosen != pair.rejected && pair.chosen.ends_with("<|im_end|>\n"));
        }
    }
}
