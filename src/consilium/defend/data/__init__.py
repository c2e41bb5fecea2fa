"""Before anything is learned."""
