//! The macro that makes `Desired`, `Facts`, `Inventory` and `Step` from the list of kinds in `resources.rs`, each with a
//! field or variant per kind, and the functions that ask every kind in turn. Imports no kind.

/// `Variant in field: type;` for each kind; the type implements [`Resource`](crate::resource::Resource).
macro_rules! resources {
    ($( $(#[$doc:meta])* $variant:ident in $field:ident: $desired:ty; )*) => {
        use std::collections::{BTreeMap, BTreeSet};

        use $crate::change::Change;
        use $crate::error::Error;
        use $crate::path::{self, PathFacts};
        use $crate::record::Record;
        use $crate::resource::{Action, Context, Resource};

        /// The desired state of one machine.
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Desired {
            $( $(#[$doc])* pub $field: $desired, )*
            /// Recorded resources that are to be removed.
            pub retired: Inventory,
        }

        /// The present state of a machine, as far as a [`Desired`] is compared with it.
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct Facts {
            $( $(#[$doc])* pub $field: <$desired as Resource>::Facts, )*
            /// The facts about the paths of all kinds.
            pub paths: BTreeMap<PathBuf, PathFacts>,
        }

        /// The resources that tercet created on a machine, by kind, with the state before.
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct Inventory {
            $(
                $(#[$doc])*
                #[serde(skip_serializing_if = "Record::is_empty")]
                pub $field: <$desired as Resource>::Record,
            )*
        }

        /// One change to a machine. Each may be repeated: after an interrupted run, the next one converges.
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Step {
            $( $(#[$doc])* $variant(<$desired as Resource>::Step), )*
        }

        impl Step {
            /// The changed fields; empty where the step's own line is complete.
            pub fn changes(&self) -> &[Change] {
                match self { $( Self::$variant(step) => step.changes(), )* }
            }

            /// Makes the change: atomic where the system allows, safe to repeat. `note` is called with progress messages.
            ///
            /// # Errors
            /// It failed; the resource is unchanged, or the next plan completes the change.
            pub fn execute(&self, note: &mut dyn FnMut(&str)) -> Result<(), Error> {
                match self { $( Self::$variant(step) => step.execute(note), )* }
            }
        }

        impl std::fmt::Display for Step {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self { $( Self::$variant(step) => step.fmt(f), )* }
            }
        }

        /// Reads the facts that `desired` is compared with; changes nothing.
        ///
        /// # Errors
        /// A file cannot be read, or a program of the system fails.
        pub fn probe(desired: &Desired) -> Result<Facts, Error> {
            let retired = &desired.retired;
            let mut paths = BTreeMap::new();
            $(
                for (path, show) in desired.$field.paths(&retired.$field) {
                    // A text that one kind may not show is shown for none.
                    paths.entry(path).and_modify(|it| *it &= show).or_insert(show);
                }
            )*
            Ok(Facts {
                $( $field: desired.$field.probe(&retired.$field)?, )*
                paths: path::probe(paths)?,
            })
        }

        /// The steps from `facts` to `desired`, in their order; none when the machine is as desired. Pure.
        pub fn plan(desired: &Desired, facts: &Facts) -> Vec<Step> {
            let mut steps = Vec::new();
            let retired = &desired.retired;
            let mut context = Context::new(&facts.paths, retired.files.keys());
            $( steps.extend(desired.$field.diff(&facts.$field, &mut context).into_iter().map(Step::$variant)); )*
            let mut context = Context::new(&facts.paths, retired.files.keys());
            let removals: &[&dyn Fn(&mut Context<'_>) -> Vec<Step>] = &[$( &|context| {
                let removal = <$desired as Resource>::removal(&retired.$field, &facts.$field, context);
                removal.into_iter().map(Step::$variant).collect()
            } ),*];
            for removal in removals.iter().rev() {
                steps.extend(removal(&mut context));
            }
            $(
                let last = desired.$field.finish(&retired.$field, &facts.$field, &context);
                steps.extend(last.into_iter().map(Step::$variant));
            )*
            steps
        }

        impl Inventory {
            /// The inventory of a machine after converging to `desired` from an empty inventory.
            pub fn of(desired: &Desired) -> Self {
                let files = files(desired);
                Self { $( $field: desired.$field.recorded(&files), )* }
            }

            /// Whether nothing is recorded.
            pub fn is_empty(&self) -> bool {
                *self == Self::default()
            }

            /// The part of it that is not in `other`.
            #[must_use]
            pub fn without(&self, other: &Self) -> Self {
                Self { $( $field: self.$field.without(&other.$field), )* }
            }

            /// Adds the resources that converging to `desired` creates. Copies of files go below `originals`.
            pub(crate) fn add(&mut self, desired: &Desired, originals: &std::path::Path) -> std::io::Result<()> {
                let files = files(desired);
                $( desired.$field.record(&files, originals, &mut self.$field)?; )*
                Ok(())
            }

            /// Drops the resources that converging to `desired` removed.
            pub(crate) fn subtract(&mut self, desired: &Desired) {
                *self = self.without(&desired.retired);
                let removed = [$( desired.$field.removed() ),*].concat();
                $( desired.$field.forget(&removed, &mut self.$field); )*
            }
        }

        fn files(desired: &Desired) -> BTreeSet<&std::path::Path> {
            desired.files.iter().map(|file| file.path.as_path()).collect()
        }
    };
}

pub(crate) use resources;
