//! The names of licences: what the user wrote (an SPDX expression), as the hub's front matter wants
//! it.

use serde_json::{Value, json};

use super::markup::yaml;

/// What the hub knows (its documentation, "Licenses"), except for `unknown` and `other`.
const KNOWN: &str = "afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 \
    bigcode-openrail-m bigscience-bloom-rail-1.0 bigscience-openrail-m bsd bsd-2-clause \
    bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 \
    cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 \
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 \
    cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m \
    deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gemma gfdl gpl \
    gpl-2.0 gpl-3.0 h-research intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 \
    llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 \
    openrail openrail++ osl-3.0 pddl postgresql unlicense wtfpl zlib";

/// The hub's name of one licence, if it has one.
fn hub_name(spdx: &str) -> Option<&'static str> {
    let lower = spdx.to_lowercase();
    let plain = lower.strip_suffix("-only").or_else(|| lower.strip_suffix("-or-later"));
    let plain = plain.unwrap_or(&lower);
    KNOWN.split_whitespace().find(|known| *known == plain)
}

/// `license` of the front matter; a choice of several becomes a list, and what the hub does not
/// know becomes `other` with its name.
pub(super) fn front_matter(expression: &str) -> String {
    let parts: Option<Vec<_>> =
        expression.split(" OR ").map(|part| hub_name(part.trim())).collect();
    match parts.as_deref() {
        Some([one]) => format!("license: {}\n", yaml(one)),
        Some(several) => {
            let lines = several.iter().map(|name| format!("- {}\n", yaml(name)));
            format!("license:\n{}", lines.collect::<String>())
        }
        None => format!("license: other\nlicense_name: {}\n", yaml(expression)),
    }
}

/// Identifiers of the SPDX list as it spells them, as far as models and data sets carry them.
const SPDX: &str = "0BSD AFL-3.0 AGPL-3.0-only AGPL-3.0-or-later Apache-2.0 Artistic-2.0 \
    BSD-2-Clause BSD-3-Clause BSD-3-Clause-Clear BSL-1.0 C-UDA-1.0 CC-BY-2.0 CC-BY-2.5 CC-BY-3.0 \
    CC-BY-4.0 CC-BY-NC-2.0 CC-BY-NC-3.0 CC-BY-NC-4.0 CC-BY-NC-ND-3.0 CC-BY-NC-ND-4.0 \
    CC-BY-NC-SA-3.0 CC-BY-NC-SA-4.0 CC-BY-ND-4.0 CC-BY-SA-3.0 CC-BY-SA-4.0 CC0-1.0 \
    CDLA-Permissive-1.0 CDLA-Permissive-2.0 CDLA-Sharing-1.0 ECL-2.0 EPL-1.0 EPL-2.0 EUPL-1.1 \
    EUPL-1.2 GPL-2.0-only GPL-2.0-or-later GPL-3.0-only GPL-3.0-or-later ISC LGPL-2.1-only \
    LGPL-2.1-or-later LGPL-3.0-only LGPL-3.0-or-later LPPL-1.3c MIT MPL-2.0 MS-PL NCSA ODC-By-1.0 \
    ODbL-1.0 OFL-1.1 OSL-3.0 PDDL-1.0 PostgreSQL Unlicense WTFPL Zlib";

/// `licenses` of a CycloneDX component: an identifier, an expression of several, or else a name.
pub(super) fn cyclonedx(expression: &str) -> Value {
    let known = |part: &str| SPDX.split_whitespace().any(|id| id == part);
    let parts: Vec<&str> = expression.split(" OR ").flat_map(|p| p.split(" AND ")).collect();
    match parts.as_slice() {
        [one] if known(one) => json!([{"license": {"id": one}}]),
        several if several.iter().all(|part| known(part)) => json!([{"expression": expression}]),
        _ => json!([{"license": {"name": expression}}]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hub_gets_names_that_it_knows() {
        for (expression, expected) in [
            ("Apache-2.0", "license: apache-2.0\n"),
            ("GPL-3.0-only", "license: gpl-3.0\n"),
            ("MIT OR Apache-2.0", "license:\n- mit\n- apache-2.0\n"),
            ("Acme Corp. 7", "license: other\nlicense_name: \"Acme Corp. 7\"\n"),
            ("MIT OR Acme", "license: other\nlicense_name: \"MIT OR Acme\"\n"),
        ] {
            assert_eq!(front_matter(expression), expected);
        }
    }

    #[test]
    fn bills_of_materials_get_spdx_where_it_is_spdx() {
        assert_eq!(cyclonedx("MIT"), json!([{"license": {"id": "MIT"}}]));
        let either = "MIT OR Apache-2.0";
        assert_eq!(cyclonedx(either), json!([{"expression": either}]));
        for name in ["apache-2.0", "Acme", "MIT OR Acme", ""] {
            assert_eq!(cyclonedx(name), json!([{"license": {"name": name}}]));
        }
    }
}
