//! What becomes of operators in a template's source, and what stays as it is.

use super::*;
use crate::snapshots::says;

fn rewritten(source: &str) -> String {
    rewrite(source, &BTreeSet::from(["messages", "loop"])).unwrap()
}

#[test]
fn what_surely_means_the_same_stays_as_it_is() {
    for source in [
        "plain {text} {# {{ a % b }} #}",
        "{% raw %}{{ a % b }}{% endraw %}{{ 'a' + x.y['z'](1, *b, c=d, **e) }}",
        "{%- if messages|length > 1 and loop.index0 % 2 == 0 or 'x' in y -%}{%- endif +%}",
        "{% set x = {'a': [1, -2 ** 3], 'b': (1,)} %}{{ x.items() }}",
        "{% macro m(a, b=[1]) %}{% endmacro %}{% call(x) m(1) %}{% endcall %}",
        "{{ x is defined and y is not divisibleby 3 and z is in [1] }}",
        "{{ a if b else c }}{{ not a or -1 }}{{ 'a' 'b' }}",
        "{% set x | upper %}a{% endset %}{% filter upper %}{% endfilter %}",
        "{{ broken % }}",
        "{{ 'open }}",
    ] {
        assert_eq!(rewritten(source), source);
    }
}

#[test]
fn operators_become_calls_and_keep_their_order() {
    for (source, expected) in [
        ("{% if a % b * c %}", "{% if __mul(__mod(a , b) , c) %}"),
        ("{% if a < b or c not in d %}", "{% if __lt(a , b) or (not __in(c , d)) %}"),
        ("{% if x[1:] %}", "{% if __slice(x, 1, none) %}"),
        ("{% if x[:-1][::2].y %}", "{% if __slice(__slice(x, none, -1), none, none, 2).y %}"),
        ("{% if a.items %}", "{% if __attr(a, 'items') %}"),
        ("{% if a['items']['b'] %}", "{% if __item(a, 'items')['b'] %}"),
        ("{% if a ~ 'b' %}", "{% if ((a|__printed('a')))|string ~ 'b' %}"),
        ("{% if 'b' ~ c|d %}", "{% if 'b' ~ (c|d)|string %}"),
        ("{% if a < b not in c %}", "{% if __chain(a , '<',  b , 'not in',  c) %}"),
        ("{% raw %}\n{{ a % b }}{% endraw %}", "{% raw %}\n\n{{ a % b }}{% endraw %}"),
        ("{% for a in b if c > d %}", "{% for a in (b)|__iter if __gt(c , d) %}"),
        ("{% for a in 1, 2 %}", "{% for a in ((1, 2,))|__iter %}"),
        ("{% if +a == 1 %}", "{% if __pos(a) == 1 %}"),
        ("{{ '\\a\\/\\n' }}", "{{ '\\x07\\\\/\\n' }}"),
        ("{{ name }}{{ messages }}", "{{ (name|__printed('name')) }}{{ messages }}"),
        ("{{ a|trim }}{{ a|default(1) }}", "{{ (a|__printed('a'))|trim }}{{ a|default(1) }}"),
    ] {
        let found = rewritten(source);
        assert_eq!(found.replace(' ', ""), expected.replace(' ', ""), "{found}");
    }
}

#[test]
fn a_tag_that_jinja_does_not_have_is_refused() {
    let invalid = rewrite("a\n{% do a.b() %}", &BTreeSet::new()).unwrap_err();
    assert_eq!(invalid.at, 5);
    says(&invalid.what, snapbox::str!["there is no tag `do` in it"]);
}

#[test]
fn expressions_that_are_nested_too_deeply_are_left_alone() {
    for (open, close) in [("(", ")"), ("[", "]"), ("-", ""), ("not ", ""), ("a if b else ", "")] {
        let source = format!("{{{{ {}a % b{} }}}}", open.repeat(20_000), close.repeat(20_000));
        assert_eq!(rewritten(&source), source);
    }
}
