//! Whole conversations between our client codec, an endpoint and a shard.
