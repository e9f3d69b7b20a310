//! Which instructions the kernels of the CPU are made of, and how large the tiles are that their
//! products sum in registers: what is best here, or what `FIREBRAND_TILE` names.

use std::sync::OnceLock;

use pulp::Arch;

/// The variable that names instructions, or instructions and a tile: everything is computed as on a
/// processor that has those and no others.
pub const TILE: &str = "FIREBRAND_TILE";

/// Instructions that kernels are written for, each with all of those before it on its processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// None but those that every processor of its kind has.
    Portable,
    /// 128 bits, of AArch64.
    Neon,
    /// 256 bits, with FMA.
    Avx2,
    /// 512 bits.
    Avx512,
    /// The same, and products of bfloat16 (AVX512-BF16, with the loads of AVX512-BW).
    Avx512Bf16,
}

/// How many rows and vectors of a product are summed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TileShape {
    /// 6 rows of a whole panel of 64 outputs, 4 vectors of 512 bits, or of 16 outputs after the
    /// other with shorter ones; left factors as they are.
    Wide,
    /// 14 rows of half a panel, 2 vectors of 512 bits; left factors packed. It reads half as much
    /// of the panel for each multiplication.
    Tall,
}

/// Instructions and a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// What kernels are compiled for.
    pub instructions: InstructionSet,
    /// What products sum at once.
    pub shape: TileShape,
}

use InstructionSet::{Avx2, Avx512, Avx512Bf16, Neon, Portable};
use TileShape::{Tall, Wide};

/// Every instruction set with its name.
const SETS: [(InstructionSet, &str); 5] = [
    (Portable, "portable"),
    (Neon, "neon"),
    (Avx2, "avx2"),
    (Avx512, "avx512"),
    (Avx512Bf16, "avx512-bf16"),
];
/// Every tile with its name: rows by vectors.
const TILES: [(InstructionSet, TileShape, &str); 7] = [
    (Portable, Wide, "portable-6x1"),
    (Neon, Wide, "neon-6x4"),
    (Avx2, Wide, "avx2-6x2"),
    (Avx512, Wide, "avx512-6x4"),
    (Avx512, Tall, "avx512-14x2"),
    (Avx512Bf16, Wide, "avx512-bf16-6x4"),
    (Avx512Bf16, Tall, "avx512-bf16-14x2"),
];

impl InstructionSet {
    /// Its name.
    pub fn name(self) -> &'static str {
        SETS.iter().find(|(set, _)| *set == self).map_or("", |(_, name)| name)
    }

    /// Those that this processor has, the least first.
    pub fn supported() -> Vec<Self> {
        let all = SETS.iter().map(|(set, _)| *set);
        all.filter(|set| set.found().is_some()).collect()
    }

    /// What dispatches kernels to code for these instructions.
    ///
    /// # Panics
    /// Where the processor does not have them.
    pub fn arch(self) -> Arch {
        self.found().expect("the processor has these instructions")
    }

    fn found(self) -> Option<Arch> {
        match self {
            Portable => Some(Arch::Scalar),
            #[cfg(target_arch = "x86_64")]
            Avx2 => pulp::x86::V3::try_new().map(Arch::V3),
            #[cfg(target_arch = "x86_64")]
            Avx512 => pulp::x86::V4::try_new().map(Arch::V4),
            #[cfg(target_arch = "x86_64")]
            Avx512Bf16 if std::arch::is_x86_feature_detected!("avx512bf16") => Avx512.found(),
            #[cfg(target_arch = "aarch64")]
            Neon => pulp::aarch64::Neon::try_new().map(Arch::Neon),
            _ => None,
        }
    }

    /// Whether a processor with no more than these has an instruction of this name.
    #[cfg(target_arch = "x86_64")]
    fn includes(self, instruction: &str) -> bool {
        match instruction {
            "avx512bf16" => self >= Avx512Bf16,
            other if other.starts_with("avx512") => self >= Avx512,
            _ => self >= Avx2,
        }
    }
}

impl Tile {
    /// Those that this processor can use, the least first.
    pub fn supported() -> Vec<Self> {
        let sets = InstructionSet::supported();
        let tiles = TILES.iter().filter(|(set, _, _)| sets.contains(set));
        tiles
            .map(|(instructions, shape, _)| Self { instructions: *instructions, shape: *shape })
            .collect()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        let own = |(set, shape, _): &&(InstructionSet, TileShape, &str)| {
            (*set, *shape) == (self.instructions, self.shape)
        };
        TILES.iter().find(own).map_or(self.instructions.name(), |(_, _, name)| name)
    }
}

/// What a value of [`TILE`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    instructions: InstructionSet,
    /// The best for the instructions, if none is named.
    shape: Option<TileShape>,
}

/// What is wrong with a value of [`TILE`], and what there is in its place; none where it can be
/// used.
pub fn tile_problem(value: &str) -> Option<(String, String)> {
    let why = read(value).err()?;
    let tiles = Tile::supported().into_iter().map(Tile::name);
    let names = InstructionSet::supported().into_iter().map(InstructionSet::name).chain(tiles);
    Some((why, format!("unset it, or name one of `{}`", names.collect::<Vec<_>>().join("`, `"))))
}

fn read(value: &str) -> Result<Asked, String> {
    let set = SETS.iter().find(|(_, name)| *name == value);
    let set = set.map(|(instructions, _)| Asked { instructions: *instructions, shape: None });
    let tile = TILES.iter().find(|(_, _, name)| *name == value);
    let tile = tile
        .map(|(instructions, shape, _)| Asked { instructions: *instructions, shape: Some(*shape) });
    let asked = set.or(tile).ok_or("there are no such instructions, and no such tile")?;
    match asked.instructions.found() {
        Some(_) => Ok(asked),
        None => Err("this processor does not have these instructions".to_owned()),
    }
}

/// What is used, and what dispatches to it.
fn used() -> &'static (Asked, Arch) {
    static USED: OnceLock<(Asked, Arch)> = OnceLock::new();
    USED.get_or_init(|| {
        let value = std::env::var_os(TILE).filter(|value| !value.is_empty());
        let asked = match value.map(|value| value.to_string_lossy().into_owned()) {
            // The program has refused what cannot be used before; tests say it like this.
            Some(value) => {
                read(&value).unwrap_or_else(|why| panic!("`{TILE}` is `{value}`: {why}"))
            }
            None => {
                let best = InstructionSet::supported().into_iter().max();
                Asked { instructions: best.expect("some need nothing"), shape: None }
            }
        };
        (asked, asked.instructions.arch())
    })
}

/// The instructions that kernels use.
pub fn instruction_set() -> InstructionSet {
    used().0.instructions
}

/// The shape of tiles that [`TILE`] names, if it names one.
pub fn named_shape() -> Option<TileShape> {
    used().0.shape
}

/// What dispatches kernels to code for the instructions that they use.
#[inline]
pub fn arch() -> Arch {
    used().1
}

/// Whether there are instructions for products of bfloat16 that our kernels know.
pub fn multiplies_bfloat16() -> bool {
    instruction_set() == Avx512Bf16
}

/// The instructions that kernels choose between, of those that this machine has and [`TILE`]
/// allows.
pub fn instructions() -> Vec<&'static str> {
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! look {
            ($($name:tt)*) => {
                $(if std::arch::is_x86_feature_detected!($name) { found.push($name) })*
            };
        }
        look!("sse4.1" "avx" "avx2" "fma" "f16c" "avx512f" "avx512bw" "avx512vl" "avx512vnni");
        look!("avx512bf16");
        // Unless fewer are asked for, all are told that there are.
        if InstructionSet::supported().last() != Some(&instruction_set()) {
            found.retain(|name| instruction_set().includes(name));
        }
    }
    #[cfg(target_arch = "aarch64")]
    if instruction_set() != Portable {
        macro_rules! look {
            ($($name:tt)*) => {
                $(if std::arch::is_aarch64_feature_detected!($name) { found.push($name) })*
            };
        }
        look!("neon" "fp16" "dotprod" "sve");
    }
    found.shrink_to_fit();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tile_has_a_name_by_which_it_is_asked_for() {
        let sets = InstructionSet::supported();
        assert_eq!(sets[0], Portable);
        for set in &sets {
            assert_eq!(read(set.name()), Ok(Asked { instructions: *set, shape: None }));
        }
        let tiles = Tile::supported();
        assert!(sets.iter().all(|set| tiles.iter().any(|tile| tile.instructions == *set)));
        for tile in tiles {
            let Tile { instructions, shape } = tile;
            assert_eq!(read(tile.name()), Ok(Asked { instructions, shape: Some(shape) }));
            assert!(tile.name().starts_with(instructions.name()) && sets.contains(&instructions));
        }
    }

    #[test]
    fn what_there_is_not_is_refused_and_what_there_is_is_said() {
        let other = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon-6x4" };
        for (value, wanted) in [
            ("avx1024", "there are no such instructions, and no such tile"),
            ("avx2-14x2", "there are no such instructions, and no such tile"),
            (other, "this processor does not have these instructions"),
        ] {
            let (why, instead) = tile_problem(value).unwrap();
            assert_eq!(why, wanted);
            let begin = "unset it, or name one of `portable`, ";
            assert!(instead.starts_with(begin) && instead.contains("`portable-6x1`"), "{instead}");
        }
        assert_eq!(tile_problem("portable"), None);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn fewer_instructions_include_fewer() {
        assert!(!Portable.includes("avx2") && Avx2.includes("fma") && !Avx2.includes("avx512f"));
        assert!(Avx512.includes("avx512vl") && !Avx512.includes("avx512bf16"));
        assert!(Avx512Bf16.includes("avx512bf16"));
    }
}
