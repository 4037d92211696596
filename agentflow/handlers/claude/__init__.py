"""Kind `claude`: the Messages API, by the SDK, in this process. The only importer of anthropic."""
