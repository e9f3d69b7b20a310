//! `generate`: which tokens are drawn, and where an answer ends.

use snapbox::str;

use crate::common::Run;

const ASK: [&str; 5] = ["generate", "checkpoints/tiny", "--chat", "--prompt", "What is 3 plus 4?"];

fn asked(run: &Run, more: &[&str]) -> String {
    run.succeeds(&[&ASK[..], &["--max-tokens", "12"], more].concat())
}

#[test]
fn filters_leave_the_most_likely_token_where_they_leave_one() {
    let run = Run::new().with_base();
    let greedy = asked(&run, &[]);
    let hot = ["--temperature", "5"];
    assert_ne!(asked(&run, &hot), greedy);
    for one in [["--top-k", "1"], ["--top-p", "1e-9"], ["--min-p", "1"]] {
        assert_eq!(asked(&run, &[&hot[..], &one].concat()), greedy, "{one:?}");
    }
    assert_ne!(asked(&run, &["--repetition-penalty", "1000"]), greedy);
}

#[test]
fn a_stop_text_ends_an_answer_and_is_not_shown() {
    let run = Run::new().with_base();
    let answer = asked(&run, &[]);
    let half = answer.char_indices().nth(answer.chars().count() / 2).unwrap().0;
    let stop = &answer[half..half + answer[half..].chars().next().unwrap().len_utf8()];
    let before = &answer[..answer.find(stop).unwrap()];
    assert_eq!(asked(&run, &["--stop", "no such text", "--stop", stop]), format!("{before}\n"));
}

#[test]
fn what_would_change_nothing_is_refused() {
    let run = Run::new().with_base();
    let refused = |more: &[&str], said| run.fails_with(2, &[&ASK[..], more].concat(), said);
    refused(
        &["--top-k", "4"],
        str![[r#"
error[usage]: `--top-k` changes nothing without draws

hint: give a `--temperature` above 0, too

"#]],
    );
    refused(
        &["--temperature", "1", "--top-k", "0"],
        str![[r#"
error[usage]: `--top-k` must be 1 or above

"#]],
    );
    refused(
        &["--temperature", "1", "--top-p", "1.5"],
        str![[r#"
error[usage]: `--top-p` must be above 0 and at most 1

"#]],
    );
    refused(
        &["--temperature", "1", "--min-p", "0"],
        str![[r#"
error[usage]: `--min-p` must be above 0 and at most 1

"#]],
    );
    refused(
        &["--repetition-penalty", "0"],
        str![[r#"
error[usage]: `--repetition-penalty` must be above 0

"#]],
    );
    refused(
        &["--temperature=-1"],
        str![[r#"
error[usage]: `--temperature` must be 0 or above

"#]],
    );
}
