//! Models for tests, made of almost nothing.

use burn::tensor::Device;

use crate::model::{
    Description, EMBEDDING, Model, ModelJson, Parameter, VocabularyMatrix, WeightSource, families,
};
use crate::ops::from_vec;
use crate::random::Stream;
use crate::weights::Element;

/// A model of which only the embedding learns, `[rows, width]` in pieces of `piece` rows.
pub fn table_in_pieces(rows: usize, width: usize, piece: usize) -> Model {
    let device = Device::flex();
    let config = ModelJson::from_value(serde_json::json!({
        "model_type": "llama", "hidden_size": width, "num_attention_heads": 1, "head_dim": 2,
        "intermediate_size": 2, "num_hidden_layers": 1, "vocab_size": rows,
        "tie_word_embeddings": true,
    }));
    let mut source = WeightSource::random(Stream::new(1), 0.02, Element::F32, &device);
    let description = families::describe(&config).expect("a family that there is");
    let mut model = Model::build(description, &mut source).expect("sizes that are possible");
    let pieces = (0..rows.div_ceil(piece)).map(|number| {
        let rows = piece.min(rows - number * piece);
        let value = from_vec(vec![0.5; rows * width], [rows, width], &device);
        Parameter { value, trainable: true }
    });
    model.embedding.matrix = VocabularyMatrix::new(EMBEDDING, pieces.collect());
    model
}

/// A Llama of two layers with four heads, two of them of keys, and a vocabulary of 1000.
pub(crate) fn small_llama() -> Description {
    let json = serde_json::json!({
        "model_type": "llama", "hidden_size": 64, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 256, "num_hidden_layers": 2,
        "vocab_size": 1000,
    });
    families::describe(&ModelJson::from_value(json)).unwrap()
}
