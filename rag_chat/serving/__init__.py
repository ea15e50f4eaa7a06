"""The HTTP server: an OpenAI-compatible API, an API of its own, the chat page and the widget."""
