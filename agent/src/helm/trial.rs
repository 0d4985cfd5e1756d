//! A way to hold a swap at a phase, and to die at a save, for the tests that
//! try every fault in every phase.
//!
//! Debug builds look into the folder that `CUTOVER_TEST_TRIAL` names. A file
//! `hold-PHASE` keeps a swap in that phase as long as it is there; `held-PHASE`
//! says that a swap is. `die-before-PHASE` and `die-after-PHASE` end the process
//! around the save of the facts that lead into that phase. Release builds hold nothing of it.

#[cfg(debug_assertions)]
mod armed {
    use std::fs;
    use std::path::PathBuf;

    use cutover_core::swap::Berth;

    /// Where a test says what is to happen.
    pub(crate) struct Trial(Option<PathBuf>);

    impl Trial {
        pub(crate) fn from_environment() -> Self {
            Self(std::env::var_os("CUTOVER_TEST_TRIAL").map(PathBuf::from))
        }

        /// Whether the open swap is to stay where it is.
        pub(crate) fn holds(&self, berth: &Berth) -> bool {
            let (Some(folder), Some(phase)) = (&self.0, berth.phase()) else {
                return false;
            };
            let holds = folder.join(format!("hold-{}", phase.as_str())).exists();
            if holds {
                let _ = fs::write(folder.join(format!("held-{}", phase.as_str())), "");
            }
            holds
        }

        /// Dies here, if the test wants it so. Once: the file is gone then.
        pub(crate) fn dies(&self, when: &str, berth: &Berth) {
            let (Some(folder), Some(phase)) = (&self.0, berth.phase()) else {
                return;
            };
            let file = folder.join(format!("die-{when}-{}", phase.as_str()));
            if fs::remove_file(file).is_ok() {
                std::process::abort();
            }
        }

        /// A swap that is held is looked at again after this.
        pub(crate) const AGAIN: std::time::Duration = std::time::Duration::from_millis(20);
    }
}

#[cfg(not(debug_assertions))]
mod armed {
    use cutover_core::swap::Berth;

    pub(crate) struct Trial;

    impl Trial {
        pub(crate) fn from_environment() -> Self {
            Self
        }

        #[allow(clippy::unused_self, reason = "as in debug builds")]
        pub(crate) fn holds(&self, _: &Berth) -> bool {
            false
        }

        #[allow(clippy::unused_self, reason = "as in debug builds")]
        pub(crate) fn dies(&self, _: &str, _: &Berth) {}

        pub(crate) const AGAIN: std::time::Duration = std::time::Duration::ZERO;
    }
}

pub(crate) use armed::Trial;
