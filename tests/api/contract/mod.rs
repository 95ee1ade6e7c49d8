//! What is published: the OpenAPI document, its examples, and the pages under `/docs`.

mod docs;
mod guides;
mod openapi;
mod reference;
