//! What a file is by its first bytes, whatever it is called.

/// What follows from a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Holds other files, or one file in fewer bytes.
    Archive,
    /// Machine code or bytecode.
    Program,
    /// A NumPy array.
    Numpy,
    /// HDF5.
    Hdf5,
    /// GGUF.
    Gguf,
    /// Plain data in a binary form.
    Data,
}

/// A kind of file.
#[derive(Debug)]
pub(super) struct FileKind {
    /// What it is called, with an article.
    pub name: &'static str,
    /// What follows from it.
    pub class: Class,
    test: fn(&[u8]) -> bool,
}

/// Names that promise text, or weights and nothing else.
const PLAIN: [&str; 18] = [
    "cfg",
    "csv",
    "html",
    "ini",
    "jinja",
    "json",
    "jsonl",
    "md",
    "pem",
    "rst",
    "safetensors",
    "sig",
    "toml",
    "tsv",
    "txt",
    "xml",
    "yaml",
    "yml",
];

static KINDS: &[FileKind] = &[
    archive("a zip archive", |b| b.starts_with(b"PK\x03\x04") || b.starts_with(b"PK\x05\x06")),
    archive("a gzip file", |b| b.starts_with(b"\x1f\x8b\x08")),
    archive("a zstd file", |b| b.starts_with(b"\x28\xb5\x2f\xfd")),
    archive("a bzip2 file", |b| b.starts_with(b"BZh") && b.get(4..10) == Some(b"1AY&SY")),
    archive("an xz file", |b| b.starts_with(b"\xfd7zXZ\0")),
    archive("an lz4 file", |b| b.starts_with(b"\x04\x22\x4d\x18")),
    archive("a 7z archive", |b| b.starts_with(b"7z\xbc\xaf\x27\x1c")),
    archive("a rar archive", |b| b.starts_with(b"Rar!\x1a\x07")),
    archive("a tar archive", |b| b.get(257..262) == Some(b"ustar")),
    program("a program for Linux (ELF)", |b| b.starts_with(b"\x7fELF")),
    program("a program for Windows (PE)", is_pe),
    program("a program for macOS (Mach-O)", is_mach_o),
    program("a WebAssembly program", |b| b.starts_with(b"\0asm")),
    program("compiled Python code", is_bytecode),
    FileKind { name: "HDF5", class: Class::Hdf5, test: is_hdf5 },
    FileKind { name: "a NumPy array", class: Class::Numpy, test: |b| b.starts_with(b"\x93NUMPY") },
    FileKind { name: "GGUF", class: Class::Gguf, test: |b| b.starts_with(b"GGUF") },
    FileKind { name: "Parquet", class: Class::Data, test: |b| b.starts_with(b"PAR1") },
];

const fn archive(name: &'static str, test: fn(&[u8]) -> bool) -> FileKind {
    FileKind { name, class: Class::Archive, test }
}

const fn program(name: &'static str, test: fn(&[u8]) -> bool) -> FileKind {
    FileKind { name, class: Class::Program, test }
}

/// The kind of a file that begins with these bytes, if it is one of those above.
pub(super) fn kind(head: &[u8]) -> Option<&'static FileKind> {
    KINDS.iter().find(|kind| (kind.test)(head))
}

/// Whether a name with this extension promises text or safetensors.
pub(super) fn promises_plain(extension: &str) -> bool {
    PLAIN.contains(&extension)
}

/// `MZ` alone is two letters: the second header must be where the first says.
fn is_pe(head: &[u8]) -> bool {
    let at = head.get(60..64).and_then(|bytes| bytes.first_chunk::<4>());
    let at = at.and_then(|bytes| usize::try_from(u32::from_le_bytes(*bytes)).ok());
    let signature = at.and_then(|at| head.get(at..at.checked_add(4)?));
    head.starts_with(b"MZ") && signature == Some(b"PE\0\0")
}

/// One architecture in either byte order, or several; the last is also how Java classes begin.
fn is_mach_o(head: &[u8]) -> bool {
    let Some(magic) = head.first_chunk::<4>() else { return false };
    let magic = u32::from_be_bytes(*magic);
    [0xfeed_face, 0xfeed_facf, 0xcefa_edfe, 0xcffa_edfe, 0xcafe_babe].contains(&magic)
}

/// A version, a line end, flags that are 0 to 3, and then a code object.
fn is_bytecode(head: &[u8]) -> bool {
    let code = |at: usize| head.get(at).is_some_and(|byte| byte & 0x7f == 0x63);
    head.get(2..4) == Some(b"\r\n")
        && head.get(4).is_some_and(|flags| *flags <= 3)
        && head.get(5..8) == Some(&[0; 3])
        && (code(16) || code(12))
}

/// The signature may stand behind a block of the user's own.
fn is_hdf5(head: &[u8]) -> bool {
    let signature = b"\x89HDF\r\n\x1a\n";
    [0, 512, 1024, 2048, 4096].iter().any(|at| head.get(*at..at + 8) == Some(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_letters_are_no_program() {
        assert!(kind(&b"MZ is how this text begins. ".repeat(9)).is_none());
        let mut pe = b"MZ".to_vec();
        pe.resize(60, 0);
        pe.extend(64_u32.to_le_bytes());
        pe.extend(b"PE\0\0");
        assert_eq!(kind(&pe).unwrap().class, Class::Program);
    }

    #[test]
    fn every_kind_is_known_by_its_first_bytes() {
        let mut tar = vec![b'a'; 257];
        tar.extend(b"ustar\0");
        let mut late = vec![0; 512];
        late.extend(b"\x89HDF\r\n\x1a\n");
        for (bytes, name) in [
            (b"PK\x03\x04".to_vec(), "zip"),
            (b"\x1f\x8b\x08".to_vec(), "gzip"),
            (b"\x28\xb5\x2f\xfd".to_vec(), "zstd"),
            (b"BZh91AY&SY".to_vec(), "bzip2"),
            (b"\xfd7zXZ\0".to_vec(), "xz"),
            (b"7z\xbc\xaf\x27\x1c".to_vec(), "7z"),
            (tar, "tar"),
            (b"\x7fELF".to_vec(), "ELF"),
            (b"\xcf\xfa\xed\xfe".to_vec(), "Mach-O"),
            (b"\xca\xfe\xba\xbe".to_vec(), "Mach-O"),
            (late, "HDF5"),
            (b"\x93NUMPY".to_vec(), "NumPy"),
            (b"GGUF".to_vec(), "GGUF"),
        ] {
            assert!(kind(&bytes).unwrap().name.contains(name), "{name}");
        }
        for text in [&b"{}"[..], b"# a title", b"", b"BZh is three letters", b"x^2"] {
            assert!(kind(text).is_none());
        }
    }
}
