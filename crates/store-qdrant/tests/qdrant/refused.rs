//! The calls of Qdrant that nobody makes here, for the stand-in: each is refused.

/// Refuses calls of the named service.
macro_rules! refuse {
    ($($name:ident: $request:ident -> $response:ident;)*) => {
        $(
            fn $name<'a, 'b>(
                &'a self,
                _: tonic::Request<qdrant_client::qdrant::$request>,
            ) -> std::pin::Pin<Box<dyn Future<Output = Result<
                tonic::Response<qdrant_client::qdrant::$response>, tonic::Status,
            >> + Send + 'b>>
            where
                'a: 'b,
                Self: 'b,
            {
                Box::pin(async { Err(tonic::Status::unimplemented(stringify!($name))) })
            }
        )*
    };
}

macro_rules! other_collections {
    () => {
        $crate::refused::refuse! {
            update: UpdateCollection -> CollectionOperationResponse;
            update_aliases: ChangeAliases -> CollectionOperationResponse;
            list_collection_aliases: ListCollectionAliasesRequest -> ListAliasesResponse;
            list_aliases: ListAliasesRequest -> ListAliasesResponse;
            collection_cluster_info: CollectionClusterInfoRequest -> CollectionClusterInfoResponse;
            collection_exists: CollectionExistsRequest -> CollectionExistsResponse;
            update_collection_cluster_setup: UpdateCollectionClusterSetupRequest -> UpdateCollectionClusterSetupResponse;
            create_shard_key: CreateShardKeyRequest -> CreateShardKeyResponse;
            delete_shard_key: DeleteShardKeyRequest -> DeleteShardKeyResponse;
            list_shard_keys: ListShardKeysRequest -> ListShardKeysResponse;
        }
    };
}

macro_rules! other_points {
    () => {
        $crate::refused::refuse! {
            get: GetPoints -> GetResponse;
            update_vectors: UpdatePointVectors -> PointsOperationResponse;
            delete_vectors: DeletePointVectors -> PointsOperationResponse;
            set_payload: SetPayloadPoints -> PointsOperationResponse;
            overwrite_payload: SetPayloadPoints -> PointsOperationResponse;
            delete_payload: DeletePayloadPoints -> PointsOperationResponse;
            clear_payload: ClearPayloadPoints -> PointsOperationResponse;
            delete_field_index: DeleteFieldIndexCollection -> PointsOperationResponse;
            create_vector_name: CreateVectorNameRequest -> PointsOperationResponse;
            delete_vector_name: DeleteVectorNameRequest -> PointsOperationResponse;
            search: SearchPoints -> SearchResponse;
            search_batch: SearchBatchPoints -> SearchBatchResponse;
            search_groups: SearchPointGroups -> SearchGroupsResponse;
            recommend: RecommendPoints -> RecommendResponse;
            recommend_batch: RecommendBatchPoints -> RecommendBatchResponse;
            recommend_groups: RecommendPointGroups -> RecommendGroupsResponse;
            discover: DiscoverPoints -> DiscoverResponse;
            discover_batch: DiscoverBatchPoints -> DiscoverBatchResponse;
            update_batch: UpdateBatchPoints -> UpdateBatchResponse;
            query_batch: QueryBatchPoints -> QueryBatchResponse;
            query_groups: QueryPointGroups -> QueryGroupsResponse;
            facet: FacetCounts -> FacetResponse;
            search_matrix_pairs: SearchMatrixPoints -> SearchMatrixPairsResponse;
            search_matrix_offsets: SearchMatrixPoints -> SearchMatrixOffsetsResponse;
        }
    };
}

pub(crate) use {other_collections, other_points, refuse};
