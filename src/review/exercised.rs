//! Does the evaluation exercise no less of the model than before?

use super::scene::{Answer, PolicySubject, Scene};
use crate::coverage::{Coverage, Covered, diff, percent};
use crate::error::Result;

/// Compares the result that is kept in the repository with the one before the change.
pub fn coverage(scene: &Scene, _: &PolicySubject) -> Result<Vec<Answer>> {
    let Some(path) = &scene.settings.coverage else {
        return Ok(vec![Answer::undecided(
            "no result of `firebrand coverage` is named",
            "keep one in the repository, and name it as `review.coverage`",
        )]);
    };
    let name = path.display();
    let measured = "`firebrand coverage MODEL --config SUITE --out` makes it";
    if !path.is_file() {
        return Ok(vec![match scene.change.before(path) {
            Some(_) => Answer::failed(format!("`{name}` is gone"), measured),
            None => Answer::undecided(format!("there is no `{name}`"), measured),
        }]);
    }
    let Some(before) = scene.change.before(path) else {
        let what = format!("there was no `{name}` before the change to compare with");
        return Ok(vec![Answer::undecided(what, "merge one first")]);
    };
    let compared =
        Coverage::parse(&before, path).and_then(|before| diff(&before, &Coverage::read(path)?.0));
    let compared = match compared {
        Ok(compared) => compared,
        Err(error) => {
            let mut answer = Answer::of_error("the results cannot be compared", &error);
            answer.advice.get_or_insert_with(|| "measure both in the same way".to_owned());
            return Ok(vec![answer]);
        }
    };
    let mut lowered = false;
    let mut parts = Vec::new();
    for (criterion, counts) in &compared.totals {
        let (before, after) = (counts.both + counts.only_a, counts.both + counts.only_b);
        lowered |= after < before;
        parts.push(format!("{criterion} {before} -> {after} ({} lost)", counts.only_a));
    }
    let kept: Covered = compared.all.b_of_a();
    let detail = format!("paths before and after: {}; {} kept", parts.join(", "), percent(&kept));
    Ok(vec![match lowered {
        true => Answer::failed(
            detail,
            "`firebrand coverage diff` names the paths; `--pool` finds records that reach them",
        ),
        false => Answer::passed(detail),
    }])
}
