//! The files of products as they are in the program, with what they ask of it.

#![allow(dead_code, unused_imports)]

mod device {
    /// There are none here that our kernels know.
    pub fn multiplies_bfloat16() -> bool {
        false
    }
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
        pub mod speed;
        pub mod target;
        pub mod transpose;
    }
}
