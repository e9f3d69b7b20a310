//! Pages in a real browser (Chromium, headless): nothing is wider than a phone or a desktop, nothing
//! fails on the console, pictures have names, and there is a dark style. Where no browser is
//! installed, the tests say loudly that they did not run; `.ci/run` installs one.

use std::process::Command;

use crate::common::{Run, repository, say_not_tested};
use serde_json::Value;

const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];
/// Widths in CSS pixels: small phone, phone, tablet, desktop.
const WIDTHS: [u32; 4] = [320, 390, 768, 1440];

/// Shows a page in frames of several widths, and writes down what it finds.
const LOOK: &str = r#"<!doctype html><meta charset="utf-8"><body><script>
const look = (width) => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.style = `width:${width}px;height:900px;border:0`;
  frame.src = "PAGE";
  frame.onload = () => {
    const page = frame.contentDocument, root = page.documentElement;
    const named = (it) => it.getAttribute("aria-label") || it.querySelector("title");
    const pictures = [...page.querySelectorAll("svg")];
    const ids = [...page.querySelectorAll("[id]")].map((it) => it.id);
    done({
      width, scroll: root.scrollWidth, client: root.clientWidth, title: page.title,
      language: root.lang, headings: page.querySelectorAll("h1").length,
      pictures: pictures.length, nameless: pictures.filter((it) => !named(it)).length,
      twice: ids.length - new Set(ids).size, text: page.body.innerText.length,
      ink: getComputedStyle(page.body).color,
      dark: frame.contentWindow.matchMedia("(prefers-color-scheme: dark)").matches,
    });
  };
  document.body.append(frame);
});
Promise.all(SIZES.map(look)).then((found) => {
  document.body.textContent = "FOUND" + JSON.stringify(found) + "END";
});
</script>"#;

fn browser() -> Option<&'static str> {
    let there = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    let found = BROWSERS.into_iter().find(there);
    if found.is_none() {
        say_not_tested("pages in a browser: there is no Chromium here");
    }
    found
}

/// What a browser finds in a page of a folder, for each width, and what its console says.
fn look_at(browser: &str, run: &Run, page: &str, dark: bool) -> (Vec<Value>, Vec<String>) {
    let text = LOOK.replace("PAGE", page).replace("SIZES", &format!("{WIDTHS:?}"));
    run.write("look.html", &text);
    let profile = run.path("profile").display().to_string();
    let output = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"])
        .args(["--no-first-run", "--enable-logging=stderr", "--virtual-time-budget=20000"])
        .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)))
        .arg(format!("--user-data-dir={profile}"))
        .arg("--dump-dom")
        .arg(format!("file://{}", run.path("look.html").display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let shown = String::from_utf8(output.stdout).unwrap();
    let found = shown.split_once("FOUND").and_then(|(_, rest)| Some(rest.split_once("END")?.0));
    let found = found.unwrap_or_else(|| panic!("the page was not shown: {shown}\n{said}"));
    let found = found.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    let console = said.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned);
    (serde_json::from_str(&found).unwrap(), console.collect())
}

/// What is wrong with a page.
fn problems(browser: &str, run: &Run, page: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut inks = Vec::new();
    for dark in [false, true] {
        let (found, console) = look_at(browser, run, page, dark);
        assert_eq!(found.len(), WIDTHS.len());
        problems.extend(console);
        for at in &found {
            let width = &at["width"];
            assert_eq!(at["dark"], dark);
            let mut expect = |holds: bool, what: &str| {
                if !holds {
                    problems.push(format!("{page} at {width}: {what}: {at}"));
                }
            };
            expect(at["scroll"] == at["client"], "wider than the window");
            expect(at["nameless"] == 0, "pictures without a name");
            expect(at["twice"] == 0, "a name twice");
            expect(at["headings"] == 1, "not one heading above all others");
            expect(at["title"] != "" && at["language"] != "", "no title, or no language");
            expect(at["text"].as_u64() > Some(200), "nothing to read");
        }
        inks.push(found[0]["ink"].clone());
    }
    if inks[0] == inks[1] {
        problems.push(format!("{page} looks the same in the dark: {inks:?}"));
    }
    problems
}

#[test]
fn the_pages_of_runs_fit_every_window_and_fail_nowhere() {
    let Some(browser) = browser() else { return };
    let run = Run::new();
    // Long words, long lines, right to left, and what looks like markup.
    let prompts = serde_json::json!([
        "What is 3 plus 4?",
        format!("{} <b>&amp;</b>", "Donaudampfschiffahrtsgesellschaft".repeat(12)),
        "مرحبا \"quoted\" 'and' <script>document.title = 1</script>",
    ]);
    let prompts = format!("eval.prompts={prompts}");
    let long_name = format!("name={}", "a-long-name".repeat(11));
    for more in [&["--set", &prompts][..], &["--set", &long_name, "--set", "train.max_steps=60"]] {
        let train = ["train", "tiny.toml", "--quiet", "--set", "eval.every_steps=2"];
        run.succeeds(&[&train[..], more].concat());
    }
    let other = "a-long-name".repeat(11);
    run.succeeds(&["runs", "compare", "tiny", &other, "--report", "compare.html"]);
    let long = format!("checkpoints/{other}/report.html");
    let mut found = Vec::new();
    for page in ["checkpoints/tiny/report.html", &long, "compare.html"] {
        found.extend(problems(browser, &run, page));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The dashboard's picture in the docs is one that browsers draw.
#[test]
fn the_pictures_of_the_docs_are_drawn() {
    let Some(browser) = browser() else { return };
    let run = Run::new();
    let picture = std::fs::read_to_string(repository("docs/dashboard.svg")).unwrap();
    let page = "<!doctype html><html lang=en><title>a</title><style>svg{max-width:100%}\
                @media (prefers-color-scheme: dark){body{color:#eee}}</style><h1>a</h1>";
    run.write("picture.html", &format!("{page}{picture}{}", "words ".repeat(50)));
    let found = problems(browser, &run, "picture.html");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What is looked for is found where it is.
#[test]
fn a_page_that_is_wrong_is_noticed() {
    let Some(browser) = browser() else { return };
    let run = Run::new();
    run.write(
        "bad.html",
        "<!doctype html><title></title><div style='width:2000px'>x</div><svg></svg>\
         <script>missing()</script><p id=a></p><p id=a></p>",
    );
    let found = problems(browser, &run, "bad.html").join("\n");
    for what in [
        "missing is not defined",
        "at 1440: wider than the window",
        "pictures without a name",
        "a name twice",
        "not one heading",
        "no title",
        "nothing to read",
        "looks the same in the dark",
    ] {
        assert!(found.contains(what), "{what}: {found}");
    }
}
