//! A request with a key is let in once, whatever the wall clock does.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::{World, WrongClock, per_second, text};
use zajil_actors::idempotency::{Begin, Scope, Ticket};
use zajil_actors::send::{AcceptError, Reserved, Submission};
use zajil_model::id::RequestId;
use zajil_model::lifecycle::Status;
use zajil_model::message::Lane;
use zajil_storage::MemoryStore;

/// A world whose wall clock a test may set.
async fn world() -> (World, Arc<WrongClock>) {
    let clock = Arc::new(WrongClock::new());
    let store = Arc::new(MemoryStore::new());
    let world = World::at(store, clock.clone(), per_second(10.0)).await;
    (world, clock)
}

async fn begins(world: &World) -> Begin {
    let scope = Scope {
        account: world.account,
        method: "POST",
        path: "/messages",
        key: "order-1",
    };
    let keys = world.engine.idempotency();
    keys.begin(scope, b"{}").await.expect("the store answers")
}

/// A request that wrote its promise down, and whose node dies before it does more.
async fn promised(world: &World) -> Reserved {
    let Begin::Fresh(ticket) = begins(world).await else {
        panic!("it is the first");
    };
    promise(world, ticket).await
}

async fn promise(world: &World, mut ticket: Ticket) -> Reserved {
    let reserved = world.engine.reserve(&world.instance, 1, false).await;
    let reserved = reserved.expect("the owner gives ids");
    let promised = ticket.promise(&reserved, 201, b"{}").await;
    promised.expect("nobody was faster");
    reserved
}

async fn accepts(world: &World, reserved: Reserved) -> Result<Reserved, AcceptError> {
    let submission = Submission {
        instance: world.instance.clone(),
        lane: Lane::Normal,
        messages: vec![text("+966501234567", "hello")],
        request: RequestId(1),
        bytes: 100,
    };
    world.engine.accept(reserved, submission).await
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_jumps_gives_up_no_promise_and_refuses_none() {
    let (world, clock) = world().await;
    let reserved = promised(&world).await;

    clock.is_ahead_by(3_600);
    let meanwhile = begins(&world).await;
    let accepted = accepts(&world, reserved).await;
    clock.is_ahead_by(0);
    let after = begins(&world).await;

    assert!(matches!(meanwhile, Begin::InFlight), "{meanwhile:?}");
    assert_eq!(accepted, Ok(reserved));
    assert!(matches!(after, Begin::Replay { .. }), "{after:?}");
    world.becomes(reserved.first, Status::Sent).await;
    assert_eq!(world.whatsapp.frames().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_promise_that_was_given_up_stays_void_when_the_wall_clock_goes_back() {
    let (world, clock) = world().await;
    let late = promised(&world).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let Begin::Fresh(ticket) = begins(&world).await else {
        panic!("nothing can come of the first any more");
    };
    let second = promise(&world, ticket).await;

    clock.is_ahead_by(-3_600);
    let refused = accepts(&world, late).await;
    let accepted = accepts(&world, second).await;

    assert_eq!(refused, Err(AcceptError::Sealed));
    assert_eq!(accepted, Ok(second));
    world.becomes(second.first, Status::Sent).await;
    assert_eq!(world.whatsapp.frames().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_asks_again_under_old_ids_hears_that_they_were_used() {
    let (world, _) = world().await;
    let reserved = promised(&world).await;
    accepts(&world, reserved).await.unwrap();

    tokio::time::sleep(Duration::from_secs(30)).await;
    let again = accepts(&world, reserved).await;

    assert_eq!(again, Ok(reserved));
    assert_eq!(world.whatsapp.frames().len(), 1);
}
