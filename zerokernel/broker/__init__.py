"""The process that decides who runs where, and keeps the books. It never unpickles anything."""
