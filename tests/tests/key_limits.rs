//! An API key's limit is never exceeded, not by many at once and not over a kill, and the headers
//! are exact.

use anyhow::Result;
use tokio::task::JoinSet;
use zajil_tests::Scene;
use zajil_tests::customer::Customer;
use zajil_tests::http::Answer;

/// How many requests a kill may cost: what was reserved ahead for the node that died, at this limit
/// 50 at a time, and again when half of them are left.
const RESERVED_AHEAD: u64 = 75;

async fn pings(customer: &Customer, count: usize) -> Vec<Answer> {
    let mut answers = JoinSet::new();
    for _ in 0..8 {
        let customer = customer.clone();
        let share = count / 8;
        answers.spawn(async move {
            let mut answers = Vec::new();
            for _ in 0..share {
                answers.push(customer.get("/ping").await);
            }
            answers
        });
    }
    answers.join_all().await.into_iter().flatten().collect()
}

fn passed(answers: &[Answer]) -> u64 {
    answers.iter().filter(|answer| answer.status == 200).count() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_the_limit_passes_and_the_headers_count_it() -> Result<()> {
    let scene = Scene::usual().await?;
    let key = scene.operator.make_key(scene.account.id, 60).await;
    let customer = scene.operator.customer(&key);

    let answers = pings(&customer, 96).await;

    assert_eq!(passed(&answers), 60);
    let header = |answer: &Answer, name: &str| answer.number(name).unwrap_or(-1);
    let mut left: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 200)
        .map(|answer| header(answer, "x-ratelimit-remaining"))
        .collect();
    left.sort_unstable();
    assert_eq!(
        left,
        (0..60).collect::<Vec<_>>(),
        "each number was told once"
    );
    let reset = header(&answers[0], "x-ratelimit-reset");
    // An hour from the first request, rounded up to a whole second.
    let now = zajil_tests::clock::wall_micros() / 1_000_000;
    assert!(
        (now + 3_500..=now + 3_601).contains(&reset),
        "{reset} at {now}"
    );
    for answer in &answers {
        assert_eq!(header(answer, "x-ratelimit-limit"), 60);
        assert_eq!(header(answer, "x-ratelimit-reset"), reset);
        if answer.status != 200 {
            assert_eq!(
                (answer.status, answer.error_code().as_str()),
                (429, "rate_limited")
            );
            assert_eq!(header(answer, "x-ratelimit-remaining"), 0);
            let wait = header(answer, "retry-after");
            assert!((3_500..=3_601).contains(&wait), "{wait}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_request_costs_one_too_and_a_bulk_costs_one() -> Result<()> {
    let scene = Scene::usual().await?;
    let key = scene.operator.make_key(scene.account.id, 100).await;
    let customer = scene.operator.customer(&key);
    let letters: Vec<_> = (0..50)
        .map(|n| zajil_tests::customer::Letter::to("+966500000001", format!("letter {n}")))
        .collect();

    let bulk = customer
        .send_bulk(scene.instance(), &letters)
        .await?
        .expect_status(200);
    let refused = customer
        .post("/messages/send", &serde_json::json!({}))
        .await
        .expect_status(422);
    let unknown = customer.get("/messages/1").await.expect_status(404);

    let left = [&bulk, &refused, &unknown].map(|answer| answer.number("x-ratelimit-remaining"));
    assert_eq!(left, [Some(99), Some(98), Some(97)]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_never_lets_more_than_the_limit_through() -> Result<()> {
    let mut scene = Scene::usual().await?;
    let limit = 400;
    let key = scene.operator.make_key(scene.account.id, limit).await;
    let customer = scene.operator.customer(&key);

    let mut sum = 0;
    for _ in 0..3 {
        let some = passed(&pings(&customer, 80).await);
        let left = customer.get("/ping").await.number("x-ratelimit-remaining");
        println!("{some} of 80 passed before a kill, {left:?} are left");
        sum += some + 1;
        scene.kill_and_start_again().await?;
    }
    sum += passed(&pings(&customer, 400).await);

    let least = limit - 3 * RESERVED_AHEAD;
    assert!((least..=limit).contains(&sum), "{sum} of {limit} passed");
    Ok(())
}
