//! The files of products as they are in the program, with what they ask of it.

#![allow(dead_code, unused_imports)]

#[path = "../../../src/device"]
mod device {
    mod instructions;
    pub use instructions::{
        InstructionSet, Tile, TileShape, arch, instruction_set, multiplies_bfloat16, named_shape,
    };
}

#[path = "../../../src/random.rs"]
mod random;

#[path = "../../../src/ops"]
mod ops {
    pub mod cpu {
        pub mod element;
        pub mod memory;
        pub mod packed;
        pub mod product;
        pub mod run {
            /// Formats of products, as `run.rs` has them beside what a model needs.
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub enum Products {
                F32,
                Bf16,
                F32RoundedToBf16,
            }
        }
        pub mod speed;
        pub mod target;
        pub mod transpose;
    }
}
