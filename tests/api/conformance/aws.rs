//! The driver for AWS, at moto's server. What moto does not do is not shown here: it ignores client tokens, knows no pages
//! of volumes, and all that is asked for is so at once.

use std::{sync::Arc, time::Duration};

use cloudapi::resources::drivers::aws::Aws;
use uuid::Uuid;

use super::{Subject, conformance};
use crate::{aws::environment, support::moto};

conformance!(start);

async fn start() -> Option<Subject> {
    let url = moto::url()?;
    let region = moto::region();
    let settings = format!(
        "region = '{region}'\nendpoint = '{url}'\nimages = {{ debian-12 = 'ami-12c6146b' }}\nsizes = {{ tiny = 't3.small' }}"
    );
    let driver = |name: &str| Arc::new(Aws::new(name.into(), toml::from_str(&settings).unwrap(), environment()));
    Some(Subject {
        driver: driver("aws"),
        sibling: driver("sibling"),
        deployment: Uuid::new_v4(),
        // Two words for one type, of which either has to be read as it was asked.
        sizes: ["tiny".into(), "t3.large".into()],
        image: "debian-12".into(),
        knows_tokens: false,
        octet: 231,
        many: 103,
        patience: Duration::from_secs(20),
        stray_volume: Box::new(move || {
            Box::pin(async move {
                let answer = moto::ask(region, &format!("Action=CreateVolume&AvailabilityZone={region}a&Size=1")).await;
                let id = answer.split("<volumeId>").nth(1).and_then(|rest| rest.split('<').next());
                id.unwrap_or_else(|| panic!("{answer}")).to_owned()
            })
        }),
        _keep: Box::new(()),
    })
}
