//! Form body of a call to the EC2 Query API. List indexes start at 1.

use form_urlencoded::Serializer;

/// API version.
const VERSION: &str = "2016-11-15";

/// Parameters of one call.
#[derive(Debug)]
pub struct Form {
    /// Name of the action.
    pub action: &'static str,
    parameters: Vec<(String, String)>,
    filters: usize,
}

impl Form {
    /// Creates the form of a call to `action`.
    pub fn new(action: &'static str) -> Self {
        Self { action, parameters: Vec::new(), filters: 0 }
    }

    /// Adds a parameter.
    pub fn with(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.parameters.push((name.into(), value.to_string()));
        self
    }

    /// Adds a parameter if it has a value.
    pub fn with_some(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds a filter for any of these values.
    pub fn with_filter<V: ToString>(mut self, name: &str, values: impl IntoIterator<Item = V>) -> Self {
        self.filters += 1;
        let nth = self.filters;
        let mut form = self.with(format!("Filter.{nth}.Name"), name);
        for (value, at) in values.into_iter().zip(1..) {
            form = form.with(format!("Filter.{nth}.Value.{at}"), value);
        }
        form
    }

    /// Adds the type and tags of the object to create, so that it has them from its creation.
    pub fn with_tags_on_create<'a>(self, kind: &str, tags: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        self.with("TagSpecification.1.ResourceType", kind).with_tags("TagSpecification.1.Tag", tags)
    }

    /// Adds these tags as the list `name`.
    pub fn with_tags<'a>(mut self, name: &str, tags: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        for ((key, value), at) in tags.into_iter().zip(1..) {
            self = self.with(format!("{name}.{at}.Key"), key).with(format!("{name}.{at}.Value"), value);
        }
        self
    }

    /// Encodes the form.
    pub fn body(&self) -> String {
        let mut body = Serializer::new(String::new());
        body.append_pair("Action", self.action).append_pair("Version", VERSION);
        body.extend_pairs(&self.parameters);
        body.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_indexes_start_at_one_and_values_are_escaped() {
        let tags = [("Name".to_owned(), "a&Action=b".to_owned())];
        let form = Form::new("CreateVpc")
            .with_some("NextToken", None::<&str>)
            .with_filter("vpc-id", ["vpc-1", "vpc-2"])
            .with_filter("tag:a", ["b"])
            .with_tags_on_create("vpc", tags.iter().map(|(key, value)| (key, value)));
        let expected = "Action=CreateVpc&Version=2016-11-15&Filter.1.Name=vpc-id&Filter.1.Value.1=vpc-1&Filter.1.Value.2=vpc-2\
                        &Filter.2.Name=tag%3Aa&Filter.2.Value.1=b&TagSpecification.1.ResourceType=vpc\
                        &TagSpecification.1.Tag.1.Key=Name&TagSpecification.1.Tag.1.Value=a%26Action%3Db";
        assert_eq!(form.body(), expected);
    }
}
