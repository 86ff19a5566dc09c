"""The learning path: lessons that run this library live, exercises that check themselves, and the server for both."""
