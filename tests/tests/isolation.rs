//! Accounts are apart: on every route that takes an id, another account's id answers exactly as
//! one that does not exist, and changes nothing.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use http::Method;
use serde_json::{Value, json};
use zajil_tests::Scene;
use zajil_tests::customer::{Customer, Letter, ids};
use zajil_tests::http::{Answer, Http, Sending};
use zajil_tests::load::number;

/// An id of nothing.
const NOTHING: &str = "1";

/// What an account has, by the first part of the paths that take its id.
type Belongings = BTreeMap<&'static str, String>;

async fn make(customer: &Customer, path: &str, document: Value) -> Result<Value> {
    Ok(customer
        .post(path, &document)
        .await
        .expect_status(201)
        .data())
}

fn id(document: &Value) -> String {
    document["id"].to_string()
}

/// Gives an account one of everything.
async fn belongings(scene: &Scene) -> Result<Belongings> {
    let customer = &scene.customer;
    let instance = scene.instance();
    let contact = json!({ "phone_number": number(1), "name": "One" });
    let template = json!({ "name": "t", "message_type": "text", "content": "Hello" });
    let batch = json!({ "name": "b", "instance": instance.to_string(), "content": "Hello" });
    let letter = Letter::to(&number(2), "theirs");
    let message = customer.send(instance, &letter).await?.expect_status(201);
    let gone = json!({ "phone_number": number(3) });
    make(customer, "/suppressions", gone).await?;
    let keys = scene
        .operator
        .dashboard(scene.account.id, Method::GET, "/api-keys", None)
        .await;
    let keys = keys.expect_status(200).data();
    let key = keys
        .as_array()
        .and_then(|all| all.first())
        .or_else(|| keys["data"].get(0));
    Ok(BTreeMap::from([
        ("messages", ids(&message)[0].to_string()),
        ("instances", instance.to_string()),
        ("contacts", id(&make(customer, "/contacts", contact).await?)),
        (
            "templates",
            id(&make(customer, "/templates", template).await?),
        ),
        ("batches", id(&make(customer, "/batches", batch).await?)),
        ("suppressions", number(3)),
        ("api-keys", id(key.context("the account has a key")?)),
    ]))
}

/// A body that every check of a route passes, so that the id alone decides.
fn body(method: &Method, path: &str) -> Sending {
    let last = path.rsplit('/').next().unwrap_or_default();
    let document = match (method.as_str(), last) {
        ("GET" | "DELETE", _) => return Sending::nothing(),
        (_, "recipients") => return Sending::bytes("text/csv", "phone\n+966500000001\n"),
        (_, "pacing") => json!({ "rate": { "count": 1, "per": "hour" } }),
        (_, "rotate") => json!({ "overlap_s": 0 }),
        (_, "{id}") if path.contains("/contacts/") => {
            json!({ "phone_number": number(4), "name": "changed" })
        }
        _ => json!({}),
    };
    Sending::json(&document)
}

/// Every route of the document that takes an id: method and path.
async fn routes(scene: &Scene) -> Result<Vec<(Method, String)>> {
    let address = scene.engine.at().api().context("the node runs")?;
    let url = format!("http://{address}/openapi.json");
    let document = Http::new()
        .call(Method::GET, &url, Sending::nothing())
        .await?
        .json();
    let paths = document["paths"]
        .as_object()
        .context("the document has paths")?;
    let mut routes = Vec::new();
    for (path, methods) in paths.iter().filter(|(path, _)| path.contains('{')) {
        for method in methods.as_object().context("a path has methods")?.keys() {
            let method = method.to_uppercase();
            if ["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str()) {
                routes.push((method.parse()?, path.clone()));
            }
        }
    }
    Ok(routes)
}

/// Calls a route as the other account, with an id in its place.
async fn call(
    scene: &Scene,
    other: &zajil_tests::operator::Account,
    method: &Method,
    path: &str,
    id: &str,
) -> Result<Answer> {
    let begin = path.find('{').context("the path takes an id")?;
    let end = path.find('}').context("the path takes an id")?;
    let called = format!("{}{id}{}", &path[..begin], &path[end + 1..]);
    let address = scene.engine.at().api().context("the node runs")?;
    let sending = body(method, path);
    let sending = if called.starts_with("/integration/") {
        sending.with("x-api-key", &other.key)
    } else {
        let token = std::fs::read_to_string(scene.engine.folder().join("operator.token"))?;
        sending
            .with("authorization", format!("Bearer {}", token.trim()))
            .with("x-account", other.id.to_string())
    };
    Ok(Http::new()
        .call(
            method.clone(),
            &format!("http://{address}{called}"),
            sending,
        )
        .await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_another_account_answers_as_one_that_does_not_exist() -> Result<()> {
    let scene = Scene::usual().await?;
    let theirs = belongings(&scene).await?;
    let other = scene.operator.make_account("other").await;
    let routes = routes(&scene).await?;
    assert!(routes.len() > 30, "only {} routes take an id", routes.len());

    for (method, path) in &routes {
        let kind = theirs
            .keys()
            .find(|kind| path.contains(&format!("/{kind}/")));
        let kind = kind.with_context(|| format!("what does {path} take?"))?;
        let nothing = if *kind == "suppressions" {
            "+966599999999"
        } else {
            NOTHING
        };

        let answer = call(&scene, &other, method, path, &theirs[kind]).await?;
        let unknown = call(&scene, &other, method, path, nothing).await?;

        assert_eq!(answer.status, 404, "{method} {path}: {}", answer.text());
        assert_eq!(answer.body, unknown.body, "{method} {path}");
        assert_eq!(answer.status, unknown.status, "{method} {path}");
    }

    // Nothing of theirs was changed by all that.
    for (kind, id) in theirs
        .iter()
        .filter(|(kind, _)| !["suppressions", "api-keys"].contains(*kind))
    {
        scene
            .customer
            .get(&format!("/{kind}/{id}"))
            .await
            .expect_status(200);
    }
    let instance = scene
        .customer
        .get(&format!("/instances/{}", theirs["instances"]))
        .await
        .data();
    assert_eq!(instance["paused"], false);
    let contact = scene
        .customer
        .get(&format!("/contacts/{}", theirs["contacts"]))
        .await
        .data();
    assert_eq!(contact["name"], "One");
    let gone = scene.customer.get("/suppressions").await.data();
    assert_eq!(gone["total"], 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_of_another_account_in_a_body_is_a_faulty_field() -> Result<()> {
    let scene = Scene::usual().await?;
    let theirs = belongings(&scene).await?;
    let other = scene.operator.make_account("other").await;
    let customer = scene.operator.customer(&other.key);
    let pace = zajil_tests::operator::Pace {
        rate: 1.0,
        burst: 1,
    };
    let mine = scene
        .operator
        .make_instance(other.id, "mine", pace, json!({}))
        .await;
    let to = number(1);

    let send = "/messages/send";
    let bodies = [
        (
            send,
            "instance",
            json!({ "instance": theirs["instances"], "recipient": to, "content": "x" }),
        ),
        (
            send,
            "instance",
            json!({ "instance": "number-0", "recipient": to, "content": "x" }),
        ),
        (
            send,
            "contact_id",
            json!({ "instance": mine, "contact_id": theirs["contacts"].parse::<u64>()?, "content": "x" }),
        ),
        (
            send,
            "template_id",
            json!({ "instance": mine, "recipient": to, "template_id": theirs["templates"].parse::<u64>()? }),
        ),
        (
            "/batches",
            "instances.0",
            json!({ "name": "b", "instances": [theirs["instances"]], "content": "x" }),
        ),
    ];
    for (path, field, document) in bodies {
        let refused = customer.post(path, &document).await.expect_status(422);
        assert!(
            refused.json()["errors"][field].is_array(),
            "{path} {field}: {}",
            refused.text()
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_show_nothing_of_another_account() -> Result<()> {
    let scene = Scene::usual().await?;
    belongings(&scene).await?;
    let other = scene.operator.make_account("other").await;
    let customer = scene.operator.customer(&other.key);

    for path in [
        "/messages",
        "/contacts",
        "/suppressions",
        "/templates",
        "/batches",
    ] {
        let page = customer.get(path).await.expect_status(200).data();
        assert_eq!(
            (&page["total"], &page["data"]),
            (&json!(0), &json!([])),
            "{path}"
        );
    }
    assert_eq!(
        customer.get("/instances").await.expect_status(200).data(),
        json!([])
    );
    assert_eq!(
        customer.get("/stats").await.expect_status(200).data()["total"],
        0
    );
    assert_eq!(customer.changes().await, []);
    Ok(())
}
