//! Settings as fields: a key is written once, beside the field that holds its value.

use std::collections::BTreeMap;

use super::value::Values;

/// What a key is read as. Its default is among the values; a type says what holds where a key has
/// none.
pub trait Setting: Sized {
    /// The value of the key `path`, which was checked.
    ///
    /// # Panics
    /// When the key takes other values than the type, or has none where the type needs one.
    fn of(values: &Values, path: &str) -> Self;
}

/// Declares a struct of settings, the keys they are read from, and `read`, which fills it. A field
/// of more than one key has a type that knows them; the last one is its own. Fields
/// `beside` them have no key: someone sets them later.
macro_rules! settings {
    (
        $(#[$about:meta])*
        pub struct $name:ident, $keys:ident {
            $($(#[$doc:meta])* $field:ident: $type:ty = $($key:expr),+;)+
        }
        $(beside { $($(#[$more_doc:meta])* $more:ident: $more_type:ty = $value:expr;)+ })?
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[$doc])* pub $field: $type,)+
            $($($(#[$more_doc])* pub $more: $more_type,)+)?
        }

        const $keys: &[$crate::document::key::Key] = &[$($($key,)+)+];

        impl $name {
            pub(crate) fn read(values: &$crate::document::Values) -> Self {
                Self {
                    $($field: {
                        const OF_FIELD: &[$crate::document::key::Key] = &[$($key,)+];
                        let own = &OF_FIELD[OF_FIELD.len() - 1];
                        $crate::document::Setting::of(values, own.path)
                    },)+
                    $($($more: $value,)+)?
                }
            }
        }
    };
}

pub(crate) use settings;

impl Setting for u64 {
    fn of(values: &Values, path: &str) -> Self {
        values.integer(path)
    }
}

impl Setting for usize {
    fn of(values: &Values, path: &str) -> Self {
        values.size(path)
    }
}

impl Setting for f64 {
    fn of(values: &Values, path: &str) -> Self {
        values.number(path)
    }
}

impl Setting for bool {
    fn of(values: &Values, path: &str) -> Self {
        values.boolean(path)
    }
}

impl Setting for String {
    fn of(values: &Values, path: &str) -> Self {
        values.text(path)
    }
}

impl<T: Setting> Setting for Option<T> {
    fn of(values: &Values, path: &str) -> Self {
        values.get(path).is_some().then(|| T::of(values, path))
    }
}

impl Setting for Vec<String> {
    fn of(values: &Values, path: &str) -> Self {
        values.optional_texts(path).unwrap_or_default()
    }
}

impl Setting for Vec<usize> {
    fn of(values: &Values, path: &str) -> Self {
        values.sizes(path)
    }
}

impl Setting for BTreeMap<String, serde_json::Value> {
    fn of(values: &Values, path: &str) -> Self {
        values.arguments(path)
    }
}
