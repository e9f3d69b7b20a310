//! Tables and schemas of the tools.

use super::*;
use crate::snapshots::says;

#[test]
fn every_tool_has_valid_schemas_and_a_name_of_its_own() {
    let mut names: Vec<&str> = TOOLS.iter().map(|tool| tool.name).collect();
    for tool in TOOLS {
        for schema in [tool.input_schema(), tool.output_schema()] {
            let schema = Value::Object(schema);
            assert!(jsonschema::meta::is_valid(&schema), "{}: {schema}", tool.name);
            let properties = schema["properties"].as_object().unwrap();
            for required in schema["required"].as_array().unwrap() {
                assert!(properties.contains_key(required.as_str().unwrap()), "{}", tool.name);
            }
        }
        assert_eq!(tool.input_schema()["additionalProperties"], false, "{}", tool.name);
        assert!(!tool.description.contains("  ") && tool.description.ends_with('.'));
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), TOOLS.len());
}

#[test]
fn arguments_that_do_not_fit_are_refused_with_what_is_wrong() {
    let schema = Value::Object(settings::PLAN.input_schema());
    let check = |arguments: Value| match arguments {
        Value::Object(map) => Arguments::check(map, &schema).map(drop),
        _ => unreachable!("objects"),
    };
    check(json!({"config": "a.toml", "set": ["train.seed=1"]})).unwrap();
    says(
        check(json!({"config": 3, "sett": [], "set": ["x"]})).unwrap_err(),
        snapbox::str![[r#"
error[usage]: the arguments do not fit the tool
  because /config: 3 is not of type "string"
  because /set/0: "x" does not match "^[^=]+="
  because Additional properties are not allowed ('sett' was unexpected)

hint: its input schema says what it takes
"#]],
    );
    assert!(check(json!({})).is_err());
    assert!(check(json!({"config": "x".repeat(5000)})).is_err());
    assert!(check(json!({"config": "a", "set": vec!["a=b"; 300]})).is_err());
}
