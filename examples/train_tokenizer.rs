//! Trains the tokenizer of the embedded base model and writes `configs/base-tiny/`.
//!
//! `cargo run --example train_tokenizer` reads the data sets and writes the directory, the same
//! bytes on every machine; with `-- --check` it compares with the committed files instead.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{AddedToken, Tokenizer};

type RunOutcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const VOCABULARY: usize = 2048;
const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const END_OF_TEXT: u32 = 0;
const END_OF_TURN: u32 = 2;

/// The sets whose words the tokenizer should know.
const SETS: [&str; 2] = ["datasets/corpus.jsonl", "datasets/quickstart.jsonl"];

/// ChatML: every turn between two markers, no system turn of its own accord.
const CHAT_TEMPLATE: &str = "\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
";

fn main() -> RunOutcome<ExitCode> {
    let check = std::env::args().skip(1).any(|argument| argument == "--check");
    let texts = texts()?;
    let tokenizer = train(&texts)?;
    let folder = Path::new("configs/base-tiny");
    let mut code = ExitCode::SUCCESS;
    for (name, content) in [
        ("tokenizer.json", tokenizer.to_string(true)? + "\n"),
        ("tokenizer_config.json", pretty(&tokenizer_config())),
        ("chat_template.jinja", CHAT_TEMPLATE.to_string()),
        ("config.json", pretty(&model_config())),
        ("generation_config.json", pretty(&generation_config())),
    ] {
        let path = folder.join(name);
        if !check {
            fs::create_dir_all(folder)?;
            fs::write(&path, content)?;
        } else if fs::read_to_string(&path)? != content {
            eprintln!("{} differs from what this program writes", path.display());
            code = ExitCode::FAILURE;
        }
    }
    report(&tokenizer, &texts)?;
    Ok(code)
}

/// Every text of the data sets: documents, and the turns of conversations.
fn texts() -> RunOutcome<Vec<String>> {
    let mut texts = Vec::new();
    for set in SETS {
        for line in fs::read_to_string(set)?.lines() {
            let record: Value = serde_json::from_str(line)?;
            let turns = record["messages"].as_array().into_iter().flatten();
            let contents = turns.map(|turn| &turn["content"]).chain([&record["text"]]);
            texts.extend(contents.filter_map(Value::as_str).map(str::to_string));
        }
    }
    Ok(texts)
}

/// Byte-pair encoding over bytes; digits stand alone, so that numbers are read digit by digit.
fn train(texts: &[String]) -> RunOutcome<Tokenizer> {
    let split: Vec<PreTokenizerWrapper> =
        vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()];
    let mut tokenizer = Tokenizer::new(BPE::default());
    tokenizer
        .with_pre_tokenizer(Some(Sequence::new(split)))
        .with_decoder(Some(ByteLevel::new(false, true, true)));
    let special = SPECIAL.map(|token| AddedToken::from(token, true));
    let mut trainer: TrainerWrapper = BpeTrainer::builder()
        .vocab_size(VOCABULARY)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(special.to_vec())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build()
        .into();
    // The markers in the documents are tokens already; their letters are no text to learn from.
    let unmarked = texts
        .iter()
        .map(|text| SPECIAL.iter().fold(text.clone(), |text, marker| text.replace(marker, "\n")));
    tokenizer.train(&mut trainer, unmarked)?;
    if tokenizer.get_vocab_size(true) != VOCABULARY {
        return Err("the texts are too few for the vocabulary".into());
    }
    Ok(tokenizer)
}

fn tokenizer_config() -> Value {
    let added = SPECIAL.iter().enumerate().map(|(id, token)| {
        let entry = json!({
            "content": token,
            "lstrip": false,
            "normalized": false,
            "rstrip": false,
            "single_word": false,
            "special": true
        });
        (id.to_string(), entry)
    });
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": false,
        "added_tokens_decoder": Value::Object(added.collect()),
        "additional_special_tokens": [SPECIAL[1], SPECIAL[2]],
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[0],
        "pad_token": SPECIAL[0],
        "clean_up_tokenization_spaces": false,
        "model_max_length": 512
    })
}

fn model_config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": false,
        "attention_dropout": 0.0,
        "bos_token_id": END_OF_TEXT,
        "dtype": "bfloat16",
        "eos_token_id": END_OF_TEXT,
        "head_dim": 32,
        "hidden_act": "silu",
        "hidden_size": 192,
        "initializer_range": 0.02,
        "intermediate_size": 512,
        "max_position_embeddings": 512,
        "mlp_bias": false,
        "num_attention_heads": 6,
        "num_hidden_layers": 6,
        "num_key_value_heads": 2,
        "pad_token_id": END_OF_TEXT,
        "rms_norm_eps": 1e-5,
        "rope_parameters": { "rope_theta": 10000.0, "rope_type": "default" },
        "tie_word_embeddings": true,
        "use_cache": true,
        "vocab_size": VOCABULARY
    })
}

/// Generation stops at the end of a text and at the end of a turn.
fn generation_config() -> Value {
    json!({
        "bos_token_id": END_OF_TEXT,
        "eos_token_id": [END_OF_TURN, END_OF_TEXT],
        "pad_token_id": END_OF_TEXT
    })
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Says how well the tokenizer fits, and that it loses nothing.
fn report(tokenizer: &Tokenizer, texts: &[String]) -> RunOutcome<()> {
    let (mut tokens, mut bytes) = (0, 0);
    for text in texts {
        let ids = tokenizer.encode(text.as_str(), false)?;
        if tokenizer.decode(ids.get_ids(), false)? != *text {
            return Err(format!("does not come back unchanged: {text}").into());
        }
        tokens += ids.len();
        bytes += text.len();
    }
    let each = bytes as f64 / tokens as f64;
    println!("{} texts, {tokens} tokens, {each:.2} bytes per token", texts.len());
    Ok(())
}
