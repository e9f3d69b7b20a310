//! Who signs what is merged and exported, its bill of materials, and where it comes from.

use super::*;

#[test]
fn merges_and_exports_are_signed_by_whom_the_user_wants() {
    let run = run_with_adapter();
    run.succeeds(&["keygen", "release.pem"]);
    let mut said = String::new();
    for (command, out) in [("merge", "one"), ("export", "two")] {
        let make = [command, "checkpoints/lora", "--out", out, "--key", "release.pem"];
        run.succeeds(&make);
        run.succeeds(&["verify", out, "--key", "release.pub.pem"]);
        let out = format!("{out}-unsigned");
        run.succeeds(&[command, "checkpoints/lora", "--out", &out, "--no-sign"]);
        assert!(!run.path(&out).join("model.sig").exists());
        // A program that does not sign: nothing is made.
        let out = format!("{out}-not");
        let make = [command, "checkpoints/lora", "--out", &out, "--signer", "false"];
        let make = [&make[..], &["--public-key", "release.pub.pem"]].concat();
        said += &run.fails(2, &make);
        assert!(!run.path(&out).exists());
    }
    says(
        said,
        str![[r#"
error[key]: the signing program `false` failed (exit status: 1)
error[key]: the signing program `false` failed (exit status: 1)

"#]],
    );
}

#[test]
fn a_bill_of_materials_is_part_of_what_is_signed() {
    let run = Run::new().with_base();
    let train = ["train", "lora.toml", "--quiet", "--set", "output.sbom=true"];
    run.succeeds(&[&train[..], &["--set", "output.license=MIT OR Apache-2.0"]].concat());
    run.succeeds(&["merge", "checkpoints/lora", "--out", "merged", "--sbom"]);
    run.succeeds(&["export", "checkpoints/lora", "--out", "file", "--sbom"]);
    for (folder, weights) in [
        ("checkpoints/lora/artifact", "adapter_model.safetensors"),
        ("merged", "model.safetensors"),
        ("file", "file-F16.gguf"),
    ] {
        run.succeeds(&["verify", folder]);
        let signature = run.read(&format!("{folder}/model.sig"));
        let statement = run.read(&format!("{folder}/lineage.statement.json"));
        assert!(statement.contains("bom.cdx.json") && !signature.is_empty());
        let bom: Value =
            serde_json::from_str(&run.read(&format!("{folder}/bom.cdx.json"))).unwrap();
        let model = &bom["metadata"]["component"];
        let digest = Digest::of(&fs::read(run.path(folder).join(weights)).unwrap()).to_string();
        assert_eq!(model["hashes"][0]["content"], digest, "{folder}");
        assert_eq!(model["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert!(bom["metadata"].get("timestamp").is_none(), "equal inputs, equal bytes");
        // Data and base have the digests of the lineage.
        let data = &bom["components"][0]["hashes"][0]["content"];
        assert_eq!(*data, Digest::of(run.read("data.jsonl").as_bytes()).to_string());
        let base = model["pedigree"]["ancestors"][0]["components"].as_array().unwrap();
        let base_weights =
            fs::read(run.path("checkpoints/tiny/artifact/model.safetensors")).unwrap();
        let digest = Digest::of(&base_weights).to_string();
        assert!(base.iter().any(|file| file["hashes"][0]["content"] == digest), "{bom:#}");
        let metrics = &model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"];
        assert!(metrics.to_string().contains("eval_loss"), "{metrics}");
    }
    assert!(!run.path("checkpoints/tiny/artifact/bom.cdx.json").exists());
}

#[test]
fn the_family_tree_is_drawn() {
    let run = run_with_adapter();
    run.succeeds(&["export", "checkpoints/lora", "--out", "a<b>&c"]);
    run.succeeds(&["lineage", "a<b>&c", "--picture", "tree.svg"]);
    let svg = run.read("tree.svg");
    for part in [
        "a&lt;b&gt;&amp;c",
        "export; signature verified",
        "lora; signature verified",
        "from-random-weights; signature verified",
        "dataset: data.jsonl",
        "config: lora.toml",
    ] {
        assert!(svg.contains(part), "{part}\n{svg}");
    }
    // Three generations and where the first got its shape; older ones stand above.
    let place = |text: &str| svg.find(text).unwrap();
    assert!(place("from-random-weights;") < place("lora; signature"));
    assert!(place("lora; signature") < place("export; signature"));
    for never in ["<script", "href", "<b>", "url("] {
        assert!(!svg.contains(never), "{never}");
    }
    let reader = closed(&svg);
    assert!(reader.is_ok(), "{reader:?}");
    run.fails_with(
        2,
        &["lineage", "a<b>&c", "--picture", "tree.svg"],
        str![[r#"
error[exists]: refusing to replace what is already there
  at tree.svg

"#]],
    );
}

/// Every tag is closed in order, and no text has a mark of XML.
fn closed(text: &str) -> Result<(), String> {
    let mut open = Vec::new();
    for piece in text.split('<').skip(1) {
        let (tag, rest) = piece.split_once('>').ok_or("an open tag")?;
        if rest.contains('&') && !rest.contains(';') {
            return Err(format!("a bare `&` in {rest}"));
        }
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!("`{name}` is closed and was not open"));
            }
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap_or(tag));
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("{open:?} stay open")) }
}
