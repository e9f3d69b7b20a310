//! Tests of GGUF files as wholes are in `tests/it/export/gguf.rs`; here is what stands in their
//! heads.

use super::*;

#[test]
fn names_of_files_are_plain() {
    assert_eq!(plain("a b/../c$"), "a-b-..-c-");
    assert_eq!(plain("..x"), "x");
    assert_eq!(plain("--"), "model");
}

#[test]
fn sizes_are_told_as_llama_cpp_does() {
    for (parameters, label) in [
        (134_515_008, "135M"),
        (1_235_814_400, "1.2B"),
        (2_764_032, "2.8M"),
        (8_030_261_248, "8.0B"),
    ] {
        assert_eq!(size_label(parameters), label);
    }
}
