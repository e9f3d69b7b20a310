//! Every rule on files that it is meant for, and on harmless ones that look alike.

use std::fs;
use std::io::Write;

use super::pickle::tests::{PROTOCOL_0, PROTOCOL_4};
use super::*;

type Files = Vec<(&'static str, Vec<u8>)>;

/// A rule, files in which it finds something, and files in which it must not.
struct Case {
    rule: &'static str,
    found: Vec<Files>,
    harmless: Vec<Files>,
}

fn one(name: &'static str, bytes: impl AsRef<[u8]>) -> Files {
    vec![(name, bytes.as_ref().to_vec())]
}

fn case(rule: &'static str, found: Vec<Files>, harmless: Vec<Files>) -> Case {
    Case { rule, found, harmless }
}

fn scan_files(files: &Files) -> Report {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    scan(folder.path(), None).unwrap()
}

fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), &vec![0; data]].concat()
}

fn weights() -> Vec<u8> {
    safetensors(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8)
}

/// A zip archive, packed or not; `unpacked` is what the directory says of sizes.
fn zip(files: &[(&str, &[u8])], pack: bool, unpacked: Option<u32>) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in files {
        let data = if pack {
            let mut encoder =
                flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        } else {
            bytes.to_vec()
        };
        let size = |length: usize| u32::try_from(length).unwrap().to_le_bytes();
        let mut fields = vec![20, 0, 0, 0, u8::from(pack) * 8, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        fields.extend(size(data.len()));
        fields.extend(unpacked.map_or_else(|| size(bytes.len()), u32::to_le_bytes));
        fields.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
        fields.extend([0, 0]);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&fields);
        directory.extend([0; 10]);
        directory.extend(size(out.len()));
        directory.extend(name.as_bytes());
        // The CRC is left at zero: readers that run code check it too late.
        out.extend(b"PK\x03\x04");
        out.extend(&fields);
        out.extend(name.as_bytes());
        out.extend(data);
    }
    let (at, length) = (out.len(), directory.len());
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    let count = u16::try_from(files.len()).unwrap().to_le_bytes();
    out.extend([count, count].concat());
    out.extend(u32::try_from(length).unwrap().to_le_bytes());
    out.extend(u32::try_from(at).unwrap().to_le_bytes());
    out.extend([0, 0]);
    out
}

fn tar(name: &str, kind: u8, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    let size = format!("{:011o}", content.len());
    header[124..135].copy_from_slice(size.as_bytes());
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..262].copy_from_slice(b"ustar");
    header.extend(content);
    header.resize(header.len().div_ceil(512) * 512 + 1024, 0);
    header
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn numpy(descr: &str) -> Vec<u8> {
    let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (3,), }}\n");
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), &[0; 24]].concat()
}

fn hdf5(text: &str) -> Vec<u8> {
    [b"\x89HDF\r\n\x1a\n\0\0\0\0", text.as_bytes()].concat()
}

const LAMBDA: &str = r#"{"layers": [{"class_name": "Lambda", "config": {}}]}"#;
const DENSE: &str = r#"{"layers": [{"class_name": "Dense", "config": {"name": "Lambda"}}]}"#;
const JOBLIB: &[u8] = b"\x80\x04\x95\x30\0\0\0\0\0\0\0\x8c\x13joblib.numpy_pickle\x94\
    \x8c\x11NumpyArrayWrapper\x94\x93\x94)\x81\x94\x93NUMPY\xff\xff";
const TURNS: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";

fn tokenizer(vocab: &str, added: &str) -> Vec<u8> {
    format!(r#"{{"added_tokens":[{added}],"model":{{"type":"BPE","vocab":{vocab},"merges":[]}}}}"#)
        .into_bytes()
}

fn pickles() -> Vec<Case> {
    let two = b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00id\x85R.".to_vec();
    let text = format!("An attack looks like this:\n\n{}", String::from_utf8_lossy(PROTOCOL_0));
    let archive = zip(&[("a/data.pkl", PROTOCOL_4), ("a/version", b"3\n")], false, None);
    let harmless = zip(&[("a.txt", b"a text"), ("b.txt", b"another")], true, None);
    vec![
        case(
            "pickle",
            vec![
                one("pytorch_model.bin", PROTOCOL_4),
                one("model.safetensors", PROTOCOL_0),
                one("config.json", &two),
                one("notes.txt", PROTOCOL_4),
                one("pytorch_model.bin", &archive),
                one("model.safetensors", [weights(), archive.clone()].concat()),
                one("packed.bin", zip(&[("x", PROTOCOL_0)], true, None)),
                one("junk.bin", [b"junk".to_vec(), archive.clone(), b"more".to_vec()].concat()),
                one("x.gz", gzip(PROTOCOL_4)),
                one("x.joblib", zlib(PROTOCOL_4)),
                one("x.tar", tar("a.pkl", b'0', "", PROTOCOL_4)),
                one("x.tgz", gzip(&tar("a.pkl", b'0', "", PROTOCOL_4))),
                one("x.zst", zstd::encode_all(PROTOCOL_4, 1).unwrap()),
            ],
            vec![
                one("model.safetensors", weights()),
                // A header of 640 bytes begins like a pickle.
                one("a.safetensors", safetensors(&format!("{{{}}}", " ".repeat(638)), 0)),
                one("README.md", &text),
                one("a.zip", &harmless),
                one("a.txt", "I am a text.\n"),
                one("a.gz", gzip(b"(a text)")),
                one("a.txt", "x^2 is a formula"),
            ],
        ),
        case(
            "joblib",
            vec![one("m.joblib", JOBLIB), one("m.z", zlib(JOBLIB))],
            vec![one("m.pkl", PROTOCOL_4), one("joblib.txt", "joblib.numpy_pickle")],
        ),
        case(
            "embedded-pickle",
            vec![
                one("a.bin", [&[0xfe; 64], PROTOCOL_4].concat()),
                one("a.safetensors", [&weights()[..], &two].concat()),
                one("b.bin", [&[0xfe; 64], PROTOCOL_0].concat()),
            ],
            vec![one("a.bin", [0xfe; 640]), one("a.md", &text), one("a.safetensors", weights())],
        ),
        case(
            "appended-archive",
            vec![
                one("model.safetensors", [weights(), archive.clone()].concat()),
                one("model.safetensors", [weights(), harmless.clone()].concat()),
                one("a.png", [b"\x89PNG....".to_vec(), archive].concat()),
            ],
            vec![
                one("a.zip", harmless),
                one("a.txt", "PK\x05\x06 is how the end of an archive begins"),
                one("model.safetensors", weights()),
            ],
        ),
    ]
}

fn contents() -> Vec<Case> {
    let mut pe = b"MZ".to_vec();
    pe.resize(60, 0);
    pe.extend(64_u32.to_le_bytes());
    pe.extend(b"PE\0\0");
    let bytecode = b"\xcb\x0d\r\n\0\0\0\0aaaabbbb\xe3".to_vec();
    let map = r#"{"auto_map": {"AutoModel": "own--other_file.Model", "AutoTokenizer": [null]}}"#;
    let auto = one("config.json", map);
    let python = "import os\n\ndef run(x):\n    os.system(x)\n";
    vec![
        case(
            "disguised",
            vec![
                one("config.json", PROTOCOL_4),
                one("model.safetensors", gzip(b"text")),
                one("notes.txt", zip(&[("a", b"b")], false, None)),
                one("notes.txt", weights()),
                one("config.json", "#!/bin/sh\nid\n"),
            ],
            vec![one("a.gz", gzip(b"text")), one("run.sh", "#!/bin/sh\n"), one("a.json", "{}")],
        ),
        case(
            "executable",
            vec![
                one("a.bin", b"\x7fELF\x02\x01"),
                one("config.json", &pe),
                one("a", b"\xcf\xfa\xed\xfe\x07"),
                one("a.pyc", &bytecode),
                one("a.zip", zip(&[("a.so", b"\x7fELF\x02\x01")], false, None)),
            ],
            vec![one("a.txt", "MZ and ELF are letters"), one("a.bin", [1; 99])],
        ),
        case(
            "model-code",
            vec![
                one("modeling_own.py", "x = 1\n"),
                [auto.clone(), one("other_file.py", "x = 1\n")].concat(),
            ],
            vec![
                one("other_file.py", "x = 1\n"),
                one("modeling.md", python),
                [auto.clone(), one("more/other_file.py", "x = 1\n")].concat(),
            ],
        ),
        case(
            "remote-code",
            vec![
                auto,
                one("tokenizer_config.json", r#"{"auto_map": {"AutoTokenizer": ["a.B", null]}}"#),
                one("x.json", r#"{"more": [{"trust_remote_code": true}]}"#),
                one("x.json", r#"{"a": 1, "a": 2, "auto_\u006dap": {"x": "y.Z"}}"#),
            ],
            vec![
                one("config.json", r#"{"auto_map": null, "trust_remote_code": false}"#),
                one("config.json", r#"{"note": "auto_map", "auto_map": {}}"#),
            ],
        ),
        case(
            "keras-lambda",
            vec![
                one("model.json", LAMBDA),
                one("model.h5", hdf5(LAMBDA)),
                one("model.keras", zip(&[("config.json", LAMBDA.as_bytes())], true, None)),
            ],
            vec![one("model.json", DENSE), one("model.h5", hdf5(DENSE))],
        ),
        case(
            "python-source",
            vec![
                one("make.py", "x = 1\n"),
                one("tool", "#!/usr/bin/env python3\n"),
                one("config.data", python),
                one("a.zip", zip(&[("code/a.py", b"x = 1\n")], true, None)),
            ],
            vec![
                one("README.md", python),
                one("notes.txt", "import duties rise.\nfrom here on, imports fall.\n"),
            ],
        ),
        case(
            "script",
            vec![one("run", "#!/bin/sh\nid\n"), one("run.bat", "dir\n")],
            vec![one("a.txt", "# a title\n"), one("a.md", "run.sh\n")],
        ),
    ]
}

fn data() -> Vec<Case> {
    let bad = safetensors(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#, 16);
    let twice = r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}"#;
    let twice = format!("{twice},{}}}", &twice[1..]);
    let bomb = safetensors(&format!("{{{}}}", " ".repeat(17 << 20)), 0);
    let format =
        r#"{"__metadata__":{"x":"y"},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#;
    let zeros = vec![0; 50_000];
    vec![
        case(
            "safetensors",
            vec![
                one("a.safetensors", bad),
                one("a.bin", safetensors(&twice, 0)),
                one("a.safetensors", bomb),
                one("a.safetensors", "{}"),
                one("a.safetensors", ""),
            ],
            vec![one("a.safetensors", weights()), one("a.safetensors", safetensors(format, 0))],
        ),
        case(
            "safetensors-format",
            vec![one("a.safetensors", safetensors(format, 0))],
            vec![one("a.safetensors", weights())],
        ),
        case(
            "numpy-object",
            vec![
                one("a.npy", numpy("'|O'")),
                one("a.npy", numpy("[('x', '<f4'), ('y', 'O8')]")),
                one("a.npz", zip(&[("a.npy", &numpy("'|O'"))], true, None)),
            ],
            vec![one("a.npy", numpy("'<f4'")), one("a.npy", numpy("[('Object', '<f4')]"))],
        ),
        case("numpy", vec![one("a.npy", numpy("'<f4'"))], vec![one("a.txt", "NUMPY")]),
        case("gguf", vec![one("a.gguf", "GGUF\x03")], vec![one("a.txt", "A GGUF")]),
        case("hdf5", vec![one("a.h5", hdf5(""))], vec![one("a.txt", "\u{89}HDF")]),
        case(
            "archive",
            vec![
                one("a.zip", zip(&[("a", b"b")], false, None)),
                one("a.gz", gzip(b"b")),
                one("a.tar", tar("a", b'0', "", b"b")),
            ],
            vec![one("a.txt", "zip"), one("model.safetensors", weights())],
        ),
        case(
            "archive-bomb",
            vec![one("a.zip", zip(&[("a", &zeros)], true, Some(0xffff_fff0)))],
            vec![one("a.zip", zip(&[("a", &zeros)], true, None))],
        ),
        case(
            "path-trick",
            vec![
                one("a.zip", zip(&[("../../a.txt", b"b")], false, None)),
                one("a.tar", tar("/etc/cron.d/a", b'0', "", b"b")),
                one("a.tar", tar("a", b'2', "../../etc/passwd", b"")),
                one("model.safetensors.index.json", r#"{"weight_map": {"a": "../../x"}}"#),
            ],
            vec![
                one("a.zip", zip(&[("b/a.txt", b"b"), ("b/", b"")], false, None)),
                one("a.tar", tar("./b/a", b'2', "c", b"")),
            ],
        ),
        case(
            "missing-file",
            vec![one("model.safetensors.index.json", r#"{"weight_map": {"a": "x.safetensors"}}"#)],
            vec![vec![
                (
                    "m/model.safetensors.index.json",
                    br#"{"weight_map":{"a":"x.safetensors"}}"#.into(),
                ),
                ("m/x.safetensors", weights()),
            ]],
        ),
        case(
            "json-duplicate-key",
            vec![one("config.json", r#"{"a": {"b": 1, "b": 2}}"#)],
            vec![one("config.json", r#"{"a": {"b": 1}, "b": 2}"#)],
        ),
        case(
            "unread",
            vec![
                one("config.json", r#"{"a": NaN}"#),
                one("config.json", "[".repeat(100_000)),
                one("a.7z", b"7z\xbc\xaf\x27\x1c"),
                one("a.zip", b"PK\x03\x04...."),
                one("a.tgz", gzip(&gzip(b"b"))),
                one("tokenizer.json", "{}"),
            ],
            vec![one("config.json", r#"{"a": 1}"#), one("a.gz", gzip(b"b"))],
        ),
    ]
}

fn texts() -> Vec<Case> {
    let list = |source: &str| {
        serde_json::json!({"chat_template": [{"name": "default", "template": source}]}).to_string()
    };
    let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
    let asked = |what: &str| format!("{{% if {what} %}}{endless}{{% endif %}}");
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(9999), ")".repeat(9999));
    let escape = "{{ ''.__class__.__mro__[1].__subclasses__() }}";
    let config = |size: u32| ("config.json", format!(r#"{{"vocab_size": {size}}}"#).into_bytes());
    let vocab = || ("tokenizer.json", tokenizer(r#"{"a": 0, "b": 1}"#, ""));
    let embedding = |rows: usize| {
        let tensor =
            format!(r#"{{"dtype":"F32","shape":[{rows},1],"data_offsets":[0,{}]}}"#, 4 * rows);
        let metadata = r#""__metadata__":{"format":"pt"}"#;
        let header = format!(r#"{{{metadata},"model.embed_tokens.weight":{tensor}}}"#);
        ("model.safetensors", safetensors(&header, 4 * rows))
    };
    let added = |id: u32, text: &str| format!(r#"{{"id": {id}, "content": "{text}"}}"#);
    vec![
        case(
            "template-bomb",
            vec![
                one("chat_template.jinja", endless),
                one("tokenizer_config.json", list(endless)),
                one("more/x.jinja", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"),
                one("chat_template.jinja", deep),
                one("chat_template.jinja", " ".repeat(2 << 20)),
                one("decision_template.jinja", asked("question")),
                one("decision_template.jinja", asked("state is string")),
                one("decision_template.jinja", asked("question.type == 'noul'")),
                one("decision_template.jinja", asked("state[0].role == 'user'")),
            ],
            vec![one("chat_template.jinja", TURNS), one("notes.txt", endless)],
        ),
        case(
            "template-escape",
            vec![
                one("chat_template.jinja", escape),
                one("tokenizer_config.json", list(escape)),
                one("chat_template.json", serde_json::json!({"chat_template": escape}).to_string()),
            ],
            vec![one("chat_template.jinja", TURNS), one("tokenizer_config.json", list(TURNS))],
        ),
        case(
            "template-invalid",
            vec![
                one("chat_template.jinja", "{% for %}"),
                one("chat_template.jinja", "{{ raise_exception('no') }}"),
                one("tokenizer_config.json", list("{{ messages | no_filter }}")),
                one("decision_template.jinja", "{% for %}"),
                one("decision_template.jinja", "{{ question | no_filter }}"),
                one("more/my_decision_template.jinja", "{{ raise_exception('what is asked?') }}"),
            ],
            vec![
                one("chat_template.jinja", TURNS),
                one("chat_template.jinja", "{% if tools %}{{ raise_exception('no') }}{% endif %}"),
                one("decision_template.jinja", "{{ raise_exception('what is asked?') }}"),
                one("m/decision_template.jinja", "{{ raise_exception('what is asked?') }}"),
                one("decision_template.jinja", "{{ state.strip() ~ question.options[1] }}"),
            ],
        ),
        case(
            "tokenizer-bomb",
            vec![
                one(
                    "tokenizer.json",
                    r#"{"normalizer":{"type":"Prepend","prepend":7,"a":1,"a":2}}"#,
                ),
                one(
                    "tokenizer.json",
                    r#"{"normalizer":{"type":"Precompiled","precompiled_charsmap":""}}"#,
                ),
                one("tokenizer.json", tokenizer(r#"{"a": 4000000000}"#, "")),
            ],
            vec![vec![vocab()], one("tokenizer.json", r#"{"normalizer":{"type":"NFC"}}"#)],
        ),
        case(
            "tokenizer-size",
            vec![
                vec![config(1), vocab()],
                vec![
                    config(2),
                    ("tokenizer.json", tokenizer(r#"{"a": 0, "b": 1}"#, &added(2, "c"))),
                ],
                vec![config(9), vocab(), embedding(1)],
            ],
            vec![
                vec![config(2), vocab(), embedding(2)],
                vec![vocab(), ("m/model.safetensors", embedding(1).1)],
                vec![("m/config.json", config(1).1), vocab()],
                vec![config(3), vocab()],
            ],
        ),
        case(
            "tokenizer-ids",
            vec![
                one("tokenizer.json", tokenizer(r#"{"a": 0, "b": 0}"#, "")),
                one("tokenizer.json", tokenizer(r#"{"a": 0, "b": 1}"#, &added(1, "c"))),
                one("tokenizer.json", tokenizer(r#"[["a", -1.5], ["b", -2], ["a", -3]]"#, "")),
            ],
            vec![
                one("tokenizer.json", tokenizer(r#"{"a": 0, "b": 1}"#, &added(1, "b"))),
                one("tokenizer.json", tokenizer(r#"[["a", -1.5], ["b", -2]]"#, &added(2, "c"))),
            ],
        ),
        case(
            "file-name",
            vec![
                one("a\u{1b}[2J.txt", "x"),
                one("a\u{202e}txt.exe", "x"),
                one("con.txt", "x"),
                one("..\\a", "x"),
                one("m/a:b", "x"),
            ],
            vec![one("ein-Größenmaß_1.0.txt", "x"), one("model-00001-of-00002.txt", "x")],
        ),
        case(
            "hidden-file",
            vec![one(".env", "x"), one(".cache/a", "x")],
            vec![one(".gitattributes", "x"), one("a.b", "x")],
        ),
    ]
}

#[test]
fn every_rule_finds_what_it_is_for_and_nothing_else() {
    let all = [pickles(), contents(), data(), texts()];
    let mut cases: Vec<Case> = all.into_iter().flatten().collect();
    for Case { rule, found, harmless } in &cases {
        for (files, expected) in
            found.iter().map(|files| (files, true)).chain(harmless.iter().map(|f| (f, false)))
        {
            let report = scan_files(files);
            let names: Vec<_> = files.iter().map(|(name, _)| name).collect();
            let seen = report.findings.iter().any(|finding| finding.rule.id == *rule);
            assert_eq!(seen, expected, "{rule} in {names:?}: {:#?}", report.findings);
        }
    }
    // Links and pipes cannot be written as bytes: they have tests of their own.
    cases.extend([case("symlink", vec![], vec![]), case("special-file", vec![], vec![])]);
    for rule in RULES {
        assert!(cases.iter().any(|case| case.rule == rule.id), "{} has no test", rule.id);
    }
}

#[test]
fn severities_lead_to_verdicts() {
    assert_eq!(scan_files(&one("a.txt", "x")).verdict(), Verdict::Clean);
    assert_eq!(scan_files(&one("make.py", "x")).verdict(), Verdict::Clean);
    assert_eq!(scan_files(&one("a.json", "x")).verdict(), Verdict::Incomplete);
    let both = [one("a.json", "x"), one("a.bin", PROTOCOL_4)].concat();
    assert_eq!(scan_files(&both).verdict(), Verdict::Dangerous);
    let report = scan_files(&both);
    assert_eq!(report.findings[0].rule.severity, Severity::Danger, "the worst comes first");
    assert!(report.summary().starts_with("DANGEROUS: 2 files, 1 danger, 1 warning"));
}

#[test]
fn names_from_outside_stay_on_their_line() {
    let report = scan_files(&one("a\u{1b}[2J\n\u{202e}b.bin", PROTOCOL_4));
    for finding in &report.findings {
        let line = finding.to_string();
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
    }
}

#[test]
fn one_file_cannot_flood_the_report() {
    let names: Vec<String> = (0..1000).map(|i| format!("\"t{i}\":\"../{i}\"")).collect();
    let index = format!("{{\"weight_map\":{{{}}}}}", names.join(","));
    let report = scan_files(&one("model.safetensors.index.json", index));
    assert_eq!(report.findings.len(), 10);
    assert_eq!((report.left_out, report.verdict()), (990, Verdict::Dangerous));
}

#[cfg(unix)]
#[test]
fn links_are_not_followed_but_in_the_cache_of_the_hub() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let (snapshot, blobs) = (folder.path().join("snapshots/abc"), folder.path().join("blobs"));
    fs::create_dir_all(&snapshot).unwrap();
    fs::create_dir_all(&blobs).unwrap();
    fs::write(blobs.join("1234"), PROTOCOL_4).unwrap();
    symlink("../../blobs/1234", snapshot.join("model.bin")).unwrap();
    let rules = |path: &Path| -> Vec<&str> {
        scan(path, None).unwrap().findings.iter().map(|finding| finding.rule.id).collect()
    };
    assert_eq!(rules(&snapshot), ["pickle"]);
    assert_eq!(rules(&snapshot.join("model.bin")), ["pickle"]);
    symlink("/etc/passwd", snapshot.join("notes.txt")).unwrap();
    symlink("nowhere", snapshot.join("x")).unwrap();
    assert_eq!(rules(&snapshot), ["pickle", "symlink", "symlink"]);
}

#[cfg(unix)]
#[test]
fn sockets_are_told_and_not_opened() {
    let folder = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("s")).unwrap();
    let report = scan(folder.path(), None).unwrap();
    assert_eq!(report.findings[0].rule.id, "special-file");
    assert_eq!(report.verdict(), Verdict::Dangerous);
    assert!(scan(&folder.path().join("s"), None).is_err());
}
