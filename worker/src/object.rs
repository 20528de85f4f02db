//! Objects of the fleet's stores, fetched over any link. It must never believe a single answer that an
//! object is missing.

use crate::{
    link::{self, ObjectError},
    links::Links,
};
use bytes::Bytes;
use muster_protocol::{Digest, message::ObjectStore, retry::MISSING};
use muster_wire::link::Connection;

/// Fetches an object of at most `size_max` bytes. Tries `first` first, if there is one; after each
/// answer that the object is missing it tries the next link. The caller checks the digest.
pub(crate) async fn get(
    links: &Links,
    first: Option<Connection>,
    store: ObjectStore,
    digest: Digest,
    size_max: u64,
) -> Result<Bytes, ObjectError> {
    let whose = |turn: usize| match &first {
        Some(first) if turn == 0 && first.close_reason().is_none() => Some(first.clone()),
        _ => link::in_turn(links, turn),
    };
    ask(whose, |connection| async move { link::fetch(&connection, store, digest, size_max).await })
        .await
}

/// Asks the link of each turn until there is an answer that counts.
async fn ask<C, F>(
    whose: impl Fn(usize) -> Option<C>,
    fetch: impl Fn(C) -> F,
) -> Result<Bytes, ObjectError>
where
    F: Future<Output = Result<Bytes, ObjectError>>,
{
    let mut turn = 0;
    loop {
        let connection =
            whose(turn).ok_or_else(|| ObjectError::Carried("no master is linked".into()))?;
        let error = match fetch(connection).await {
            Err(error @ ObjectError::Missing { .. }) => error,
            answer => return answer,
        };
        turn += 1;
        let Some(wait) = u32::try_from(turn).ok().and_then(|failed| MISSING.after(failed)) else {
            return Err(error);
        };
        tracing::debug!(%error, turn, "asking again for an object");
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    const TRIES: usize = 4;

    const GONE: ObjectError =
        ObjectError::Missing { store: ObjectStore::Data, digest: Digest([7; 32]) };

    /// Asks masters that give these answers one after another. Returns the result and the number of
    /// requests.
    fn asked(
        answers: Vec<Result<&'static str, ObjectError>>,
    ) -> (Result<Bytes, ObjectError>, usize) {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
        let answers = RefCell::new(answers.into_iter());
        let turns = RefCell::new(0);
        let whose = |turn| {
            *turns.borrow_mut() = turn + 1;
            Some(turn)
        };
        let fetch = |_| {
            let answer = answers.borrow_mut().next().expect("it is not asked for more");
            std::future::ready(answer.map(Bytes::from))
        };
        let got = runtime.block_on(ask(whose, fetch));
        (got, turns.into_inner())
    }

    #[test]
    fn one_master_that_is_behind_does_not_make_an_object_missing() {
        let (got, turns) = asked(vec![Err(GONE), Err(GONE), Ok("it")]);
        assert_eq!((got.ok().as_deref(), turns), (Some(&b"it"[..]), 3));
    }

    #[test]
    fn what_is_missing_each_time_is_missing() {
        let (got, turns) = asked((0..TRIES).map(|_| Err(GONE)).collect());
        assert!(matches!(got, Err(ObjectError::Missing { .. })), "{got:?}");
        assert_eq!(turns, TRIES);
    }

    #[test]
    fn a_master_that_does_not_answer_decides_nothing() {
        let broken = ObjectError::Carried("the link is down".into());
        let (got, turns) = asked(vec![Err(GONE), Err(broken)]);
        assert!(matches!(got, Err(ObjectError::Carried(_))), "{got:?}");
        assert_eq!(turns, 2);
    }
}
