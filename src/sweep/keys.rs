//! The keys of `sweep.toml`.

use std::sync::LazyLock;

use crate::document::key::{DefaultValue, Key, MANY, Range, Section, ValueKind};
use crate::document::{DocumentKind, KeyTable, choices};

/// More points than this are not planned at once.
pub const POINTS_MAX: u64 = 100_000;

choices! {
    /// How points are chosen.
    Method {
        /// Every combination of values.
        Grid = "grid",
        /// Independent draws.
        Random = "random",
        /// A Sobol sequence, which fills the space evenly.
        Sobol = "sobol",
    }
}

choices! {
    /// How values lie between two ends.
    Scale {
        /// At equal distances.
        Linear = "linear",
        /// At equal ratios.
        Log = "log",
    }
}

choices! {
    /// Who goes on where points are compared before their end.
    StoppingRule {
        /// The best ones: one of so many.
        Halving = "halving",
        /// Those that are not worse than the median.
        Median = "median",
    }
}

choices! {
    /// Which values of a metric are better.
    Direction {
        /// The lower ones.
        Lower = "lower",
        /// The higher ones.
        Higher = "higher",
    }
}

/// All keys of a sweep.
pub static KEYS: LazyLock<KeyTable> = LazyLock::new(|| KeyTable::new(&KIND, &[TOP, STOPPING]));

const KIND: DocumentKind = DocumentKind {
    name: "sweep",
    what: "the sweep",
    title: "Firebrand sweep",
    about: "Many runs: which settings and data sets are tried.",
    opening: "Many runs: `firebrand sweep plan FILE` writes a configuration for each point, \
              `firebrand sweep run FOLDER` trains them, `firebrand sweep collect FOLDER` compares \
              the results.",
    paths: "Paths are relative to the folder where the command is run.",
    too_large: "a sweep names settings and data sets, it does not hold them",
};

const TOP: Section = Section::new(
    "",
    "What the points have in common.",
    &[
        Key::new(
            "configs",
            ValueKind::Texts,
            DefaultValue::Required,
            "Configurations that the points begin with; with several, every point is tried with \
             each.",
        )
        .example("[\"configs/quickstart.toml\"]"),
        Key::new(
            "name",
            ValueKind::Name,
            DefaultValue::Depends("the name of the file"),
            "Name of the sweep; `sweep plan` writes into `sweeps/NAME`.",
        )
        .example("\"learning-rate\""),
        Key::new(
            "method",
            ValueKind::Choice(Method::NAMES),
            DefaultValue::Value("\"grid\""),
            "`grid` tries every combination of values, `random` draws each parameter \
             independently, `sobol` fills the space of the parameters evenly.",
        )
        .example("\"sobol\""),
        Key::new(
            "points",
            ValueKind::Integer { min: 1, max: POINTS_MAX },
            DefaultValue::Absent("`random` and `sobol` need it"),
            "How many points are drawn, for each configuration and data set. A power of two suits \
             `sobol` best.",
        )
        .example("64")
        .only_with("method", &["random", "sobol"]),
        Key::new(
            "seed",
            ValueKind::Integer { min: 0, max: i64::MAX.unsigned_abs() },
            DefaultValue::Value("0"),
            "Decides the draws; the same seed gives the same points, and more points with \
             `points` raised.",
        )
        .example("1")
        .only_with("method", &["random", "sobol"]),
        Key::new(
            "metric",
            ValueKind::Line,
            DefaultValue::Value("\"eval_loss\""),
            "What points are compared by: `eval_loss` (the last validation loss), \
             `best_eval_loss`, `loss` (of the last training step), or a metric of the suite that \
             `eval.suite` names, whose loss is `suite_loss`.",
        )
        .example("\"accuracy\""),
        Key::new(
            "direction",
            ValueKind::Choice(Direction::NAMES),
            DefaultValue::Depends(
                "`lower` for losses and perplexity, `higher` for all other metrics",
            ),
            "Which values of the metric are better.",
        )
        .example("\"higher\""),
        Key::new(
            "set",
            ValueKind::Settings,
            DefaultValue::Absent("the configurations are taken as they are"),
            "Settings of every point. `{dataset}` in a value stands for the name of the data set.",
        )
        .example("{ \"output.signing_key\" = \"keys/{dataset}.pem\" }"),
        Key::new(
            "datasets",
            ValueKind::Line,
            DefaultValue::Absent("the data sets are those of the configurations"),
            "A folder with one data set per run: each file or folder in it is one, named by its \
             name without the extension; `NAME.validation.*` beside it is its validation set.",
        )
        .example("\"tenants\"")
        .excludes(&["dataset"]),
        Key::new(
            "dataset",
            ValueKind::Tables { keys: DATASET, may_be_empty: true },
            DefaultValue::Absent("the data sets are those of the configurations"),
            "A data set; every point is tried with each.",
        )
        .example("[{ name = \"german\", train = \"german.jsonl\" }]"),
        Key::new(
            "parameter",
            ValueKind::Tables { keys: PARAMETER, may_be_empty: true },
            DefaultValue::Absent("nothing is varied but configurations and data sets"),
            "A setting that is varied.",
        )
        .example("[{ key = \"train.learning_rate\", values = [1e-4, 1e-3] }]"),
    ],
);

const STOPPING: Section = Section::new(
    "stopping",
    "Points are compared by `metric` before their end, and the worse ones are stopped there. All \
     come to a step before it is decided, so that the result does not depend on how many run at a \
     time, or on how many workers: these hear of each other by the folder or the store.",
    &[
        Key::new(
            "stopping.rule",
            ValueKind::Choice(StoppingRule::NAMES),
            DefaultValue::Value("\"halving\""),
            "`halving` is successive halving: at each step one of `eta` points goes on, the best \
             ones. `median` lets those go on that are not worse than the median.",
        )
        .example("\"median\""),
        Key::new(
            "stopping.steps",
            ValueKind::Rising { min: 1, max: MANY },
            DefaultValue::Required,
            "The steps after which points are compared.",
        )
        .example("[100, 300]"),
        Key::new(
            "stopping.eta",
            ValueKind::Integer { min: 2, max: 1000 },
            DefaultValue::Value("3"),
            "Of so many points one goes on.",
        )
        .example("2")
        .only_with("stopping.rule", &["halving"]),
    ],
)
.optional();

const DATASET: &[Key] = &[
    Key::new(
        "name",
        ValueKind::Name,
        DefaultValue::Required,
        "Its name, which is in the name of the runs.",
    )
    .example("\"acme\""),
    Key::new(
        "train",
        ValueKind::Line,
        DefaultValue::Absent("that of the configuration"),
        "Training data, in place of the `path` of the only `[[data.train]]`.",
    )
    .example("\"tenants/acme.jsonl\""),
    Key::new(
        "validation",
        ValueKind::Line,
        DefaultValue::Absent("that of the configuration"),
        "Validation data, in place of the `path` of the only `[[data.validation]]`.",
    )
    .example("\"tenants/acme.validation.jsonl\""),
    Key::new(
        "set",
        ValueKind::Settings,
        DefaultValue::Absent("none"),
        "Settings of the runs with this data set.",
    )
    .example("{ \"output.signing_key\" = \"keys/acme.pem\" }"),
];

const PARAMETER: &[Key] = &[
    Key::new("key", ValueKind::Line, DefaultValue::Required, "The setting, as a dotted path.")
        .example("\"train.learning_rate\""),
    Key::new(
        "values",
        ValueKind::Literals,
        DefaultValue::Absent("the range from `min` to `max`"),
        "The values that are tried.",
    )
    .example("[1e-4, 3e-4, 1e-3]")
    .excludes(&["min", "max", "scale", "count"]),
    Key::new(
        "min",
        ValueKind::Number(Range::FINITE),
        DefaultValue::Absent("there is no range"),
        "Lower end of a range.",
    )
    .example("1e-5"),
    Key::new(
        "max",
        ValueKind::Number(Range::FINITE),
        DefaultValue::Absent("there is no range"),
        "Upper end of a range.",
    )
    .example("1e-3"),
    Key::new(
        "scale",
        ValueKind::Choice(Scale::NAMES),
        DefaultValue::Value("\"linear\""),
        "How values lie in the range: at equal distances, or at equal ratios.",
    )
    .example("\"log\""),
    Key::new(
        "count",
        ValueKind::Integer { min: 2, max: MANY },
        DefaultValue::Absent("a grid needs it"),
        "How many values of the range a grid has, both ends among them.",
    )
    .example("5"),
    Key::new(
        "when",
        ValueKind::Settings,
        DefaultValue::Absent("always"),
        "Varied only where parameters above it have these values; an array is any of its values.",
    )
    .example("{ \"train.lr_scheduler\" = [\"linear\", \"cosine\"] }"),
];
