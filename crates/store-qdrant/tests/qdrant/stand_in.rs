//! A small Qdrant in memory, over gRPC: exact search by cosine, filters of keywords and ids,
//! pages, and the faults that a test asks for.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use qdrant_client::qdrant::{
    self as q, collections_server as cs, condition::ConditionOneOf, r#match::MatchValue,
    point_id::PointIdOptions, points_selector::PointsSelectorOneOf, points_server as ps,
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, transport::Server};

use crate::refused::{other_collections, other_points};

type Answer<T> = Result<Response<T>, Status>;

/// What goes wrong with all calls.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) enum Fault {
    #[default]
    None,
    Unavailable,
    Refuses,
    Late,
    /// Only searches: they give what belongs to others too.
    Unfiltered,
    /// Only searches: what stands beside the points is missing.
    Bare,
}

#[derive(Debug, Default)]
struct Held {
    collections: HashMap<String, Collection>,
    fault: Fault,
    /// Filters of all searches, for tests that look at them.
    filters: Vec<q::Filter>,
}

#[derive(Debug)]
struct Collection {
    size: u64,
    indexes: Vec<String>,
    points: BTreeMap<String, Point>,
}

#[derive(Debug, Clone)]
struct Point {
    vector: Vec<f32>,
    payload: HashMap<String, q::Value>,
}

/// A running stand-in.
#[derive(Debug, Clone, Default)]
pub(crate) struct StandIn(Arc<Mutex<Held>>);

impl StandIn {
    /// Starts one and says its address.
    pub(crate) async fn start() -> (Self, String) {
        let this = Self::default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Server::builder()
            .add_service(cs::CollectionsServer::new(this.clone()))
            .add_service(ps::PointsServer::new(this.clone()));
        let connections = async_stream::stream! {
            loop {
                yield listener.accept().await.map(|(stream, _)| stream);
            }
        };
        tokio::spawn(server.serve_with_incoming(connections));
        (this, address)
    }

    pub(crate) fn set_fault(&self, fault: Fault) {
        self.0.lock().unwrap().fault = fault;
    }

    /// Forgets everything, as a server restored from nothing does.
    pub(crate) fn lose(&self) {
        self.0.lock().unwrap().collections.clear();
    }

    /// Forgets one point.
    pub(crate) fn lose_a_point(&self) {
        let mut held = self.0.lock().unwrap();
        let points = &mut held.collections.values_mut().next().unwrap().points;
        points.pop_first().unwrap();
    }

    /// Points of all collections.
    pub(crate) fn points(&self) -> usize {
        let held = self.0.lock().unwrap();
        held.collections.values().map(|c| c.points.len()).sum()
    }

    pub(crate) fn collections(&self) -> Vec<(String, Vec<String>)> {
        let held = self.0.lock().unwrap();
        let named = held.collections.iter();
        named
            .map(|(name, c)| (name.clone(), c.indexes.clone()))
            .collect()
    }

    /// All values beside points, as text.
    pub(crate) fn payloads(&self) -> String {
        let held = self.0.lock().unwrap();
        let points = held.collections.values().flat_map(|c| c.points.values());
        points
            .map(|point| format!("{:?}\n", point.payload))
            .collect()
    }

    pub(crate) fn filters(&self) -> Vec<q::Filter> {
        std::mem::take(&mut self.0.lock().unwrap().filters)
    }

    async fn works(&self) -> Result<(), Status> {
        let fault = self.0.lock().unwrap().fault;
        match fault {
            Fault::Unavailable => Err(Status::unavailable("it starts")),
            Fault::Refuses => Err(Status::permission_denied("no")),
            Fault::Late => std::future::pending().await,
            Fault::None | Fault::Unfiltered | Fault::Bare => Ok(()),
        }
    }

    fn within<T>(
        &self,
        name: &str,
        work: impl FnOnce(&mut Collection) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let mut held = self.0.lock().unwrap();
        match held.collections.get_mut(name) {
            Some(collection) => work(collection),
            None => Err(Status::not_found(format!("no collection {name}"))),
        }
    }
}

fn text(id: &q::PointId) -> String {
    match id.point_id_options.as_ref().unwrap() {
        PointIdOptions::Uuid(uuid) => uuid.clone(),
        PointIdOptions::Num(number) => number.to_string(),
    }
}

fn matches(filter: Option<&q::Filter>, id: &str, point: &Point) -> bool {
    let Some(filter) = filter else { return true };
    assert!(filter.should.is_empty() && filter.must_not.is_empty());
    filter
        .must
        .iter()
        .all(|condition| match &condition.condition_one_of {
            Some(ConditionOneOf::Field(field)) => {
                let wanted = field.r#match.as_ref().unwrap().match_value.as_ref();
                let Some(MatchValue::Keyword(wanted)) = wanted else {
                    panic!("only keywords are compared here");
                };
                let value = point.payload.get(&field.key).and_then(q::Value::as_str);
                value.is_some_and(|value| value == wanted)
            }
            Some(ConditionOneOf::HasId(ids)) => ids.has_id.iter().any(|one| text(one) == id),
            _ => panic!("a condition that nobody uses here"),
        })
}

fn chosen(selector: Option<q::PointsSelector>, id: &str, point: &Point) -> bool {
    match selector.and_then(|selector| selector.points_selector_one_of) {
        Some(PointsSelectorOneOf::Points(list)) => list.ids.iter().any(|one| text(one) == id),
        Some(PointsSelectorOneOf::Filter(filter)) => matches(Some(&filter), id, point),
        None => false,
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())
}

fn dense(vectors: Option<q::Vectors>) -> Vec<f32> {
    let Some(q::vectors::VectorsOptions::Vector(vector)) = vectors.unwrap().vectors_options else {
        panic!("one unnamed vector");
    };
    match vector.vector {
        Some(q::vector::Vector::Dense(dense)) => dense.data,
        #[expect(deprecated, reason = "what older clients send is read too")]
        _ => vector.data,
    }
}

#[tonic::async_trait]
impl cs::Collections for StandIn {
    async fn get(
        &self,
        request: Request<q::GetCollectionInfoRequest>,
    ) -> Answer<q::GetCollectionInfoResponse> {
        self.works().await?;
        let name = request.into_inner().collection_name;
        let size = self.within(&name, |collection| Ok(collection.size))?;
        let params = q::VectorParams {
            size,
            ..q::VectorParams::default()
        };
        let params = q::CollectionParams {
            vectors_config: Some(q::VectorsConfig {
                config: Some(q::vectors_config::Config::Params(params)),
            }),
            ..q::CollectionParams::default()
        };
        let config = q::CollectionConfig {
            params: Some(params),
            ..q::CollectionConfig::default()
        };
        Ok(Response::new(q::GetCollectionInfoResponse {
            result: Some(q::CollectionInfo {
                config: Some(config),
                ..q::CollectionInfo::default()
            }),
            ..q::GetCollectionInfoResponse::default()
        }))
    }

    async fn list(
        &self,
        _: Request<q::ListCollectionsRequest>,
    ) -> Answer<q::ListCollectionsResponse> {
        self.works().await?;
        let names = self.collections().into_iter();
        Ok(Response::new(q::ListCollectionsResponse {
            collections: names
                .map(|(name, _)| q::CollectionDescription { name })
                .collect(),
            ..q::ListCollectionsResponse::default()
        }))
    }

    async fn create(
        &self,
        request: Request<q::CreateCollection>,
    ) -> Answer<q::CollectionOperationResponse> {
        self.works().await?;
        let request = request.into_inner();
        let config = request.vectors_config.unwrap().config.unwrap();
        let q::vectors_config::Config::Params(params) = config else {
            return Err(Status::invalid_argument("one unnamed vector"));
        };
        assert_eq!(params.distance, q::Distance::Cosine as i32);
        let mut held = self.0.lock().unwrap();
        if held.collections.contains_key(&request.collection_name) {
            return Err(Status::already_exists("the collection"));
        }
        let made = Collection {
            size: params.size,
            indexes: Vec::new(),
            points: BTreeMap::new(),
        };
        held.collections.insert(request.collection_name, made);
        Ok(Response::new(q::CollectionOperationResponse {
            result: true,
            ..q::CollectionOperationResponse::default()
        }))
    }

    async fn delete(
        &self,
        request: Request<q::DeleteCollection>,
    ) -> Answer<q::CollectionOperationResponse> {
        self.works().await?;
        let mut held = self.0.lock().unwrap();
        let gone = held
            .collections
            .remove(&request.into_inner().collection_name);
        Ok(Response::new(q::CollectionOperationResponse {
            result: gone.is_some(),
            ..q::CollectionOperationResponse::default()
        }))
    }

    other_collections!();
}

#[tonic::async_trait]
impl ps::Points for StandIn {
    async fn upsert(
        &self,
        request: Request<q::UpsertPoints>,
    ) -> Answer<q::PointsOperationResponse> {
        self.works().await?;
        let request = request.into_inner();
        assert_eq!(request.wait, Some(true));
        self.within(&request.collection_name, |collection| {
            for point in request.points {
                let vector = dense(point.vectors);
                if vector.len() as u64 != collection.size {
                    return Err(Status::invalid_argument("a vector of another size"));
                }
                let id = text(&point.id.unwrap());
                let payload = point.payload;
                collection.points.insert(id, Point { vector, payload });
            }
            Ok(Response::new(q::PointsOperationResponse::default()))
        })
    }

    async fn delete(
        &self,
        request: Request<q::DeletePoints>,
    ) -> Answer<q::PointsOperationResponse> {
        self.works().await?;
        let request = request.into_inner();
        self.within(&request.collection_name, |collection| {
            let selector = request.points;
            let stays = |id: &String, point: &mut Point| !chosen(selector.clone(), id, point);
            collection.points.retain(stays);
            Ok(Response::new(q::PointsOperationResponse::default()))
        })
    }

    async fn create_field_index(
        &self,
        request: Request<q::CreateFieldIndexCollection>,
    ) -> Answer<q::PointsOperationResponse> {
        self.works().await?;
        let request = request.into_inner();
        self.within(&request.collection_name, |collection| {
            collection.indexes.push(request.field_name);
            Ok(Response::new(q::PointsOperationResponse::default()))
        })
    }

    async fn scroll(&self, request: Request<q::ScrollPoints>) -> Answer<q::ScrollResponse> {
        self.works().await?;
        let request = request.into_inner();
        // Small pages, so that there are several.
        let limit = usize::try_from(request.limit.unwrap()).unwrap().min(2);
        let from = request.offset.as_ref().map(text).unwrap_or_default();
        self.within(&request.collection_name, |collection| {
            let mut points = collection.points.range(from..);
            let page = points.by_ref().take(limit);
            let result = page
                .map(|(id, point)| q::RetrievedPoint {
                    id: Some(id.as_str().into()),
                    payload: point.payload.clone(),
                    ..q::RetrievedPoint::default()
                })
                .collect();
            Ok(Response::new(q::ScrollResponse {
                next_page_offset: points.next().map(|(id, _)| id.as_str().into()),
                result,
                ..q::ScrollResponse::default()
            }))
        })
    }

    async fn count(&self, request: Request<q::CountPoints>) -> Answer<q::CountResponse> {
        self.works().await?;
        let request = request.into_inner();
        self.within(&request.collection_name, |collection| {
            let points = collection.points.iter();
            let filter = request.filter.as_ref();
            let count = points
                .filter(|(id, point)| matches(filter, id, point))
                .count() as u64;
            Ok(Response::new(q::CountResponse {
                result: Some(q::CountResult { count }),
                ..q::CountResponse::default()
            }))
        })
    }

    async fn query(&self, request: Request<q::QueryPoints>) -> Answer<q::QueryResponse> {
        self.works().await?;
        let request = request.into_inner();
        let variant = request.query.unwrap().variant.unwrap();
        let q::query::Variant::Nearest(nearest) = variant else {
            return Err(Status::invalid_argument("only the nearest"));
        };
        let Some(q::vector_input::Variant::Dense(query)) = nearest.variant else {
            return Err(Status::invalid_argument("one dense vector"));
        };
        let fault = {
            let mut held = self.0.lock().unwrap();
            held.filters.extend(request.filter.clone());
            held.fault
        };
        let filter = request.filter.filter(|_| fault != Fault::Unfiltered);
        self.within(&request.collection_name, |collection| {
            let found = collection.points.iter();
            let mut found: Vec<q::ScoredPoint> = found
                .filter(|(id, point)| matches(filter.as_ref(), id, point))
                .map(|(id, point)| q::ScoredPoint {
                    id: Some(id.as_str().into()),
                    score: cosine(&query.data, &point.vector),
                    payload: match fault {
                        Fault::Bare => HashMap::new(),
                        _ => point.payload.clone(),
                    },
                    ..q::ScoredPoint::default()
                })
                .collect();
            found.sort_by(|a, b| b.score.total_cmp(&a.score));
            found.truncate(usize::try_from(request.limit.unwrap()).unwrap());
            Ok(Response::new(q::QueryResponse {
                result: found,
                ..q::QueryResponse::default()
            }))
        })
    }

    other_points!();
}

/// How long calls may take in these tests where they are to be late.
pub(crate) const SOON: Duration = Duration::from_millis(200);
