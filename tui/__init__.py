"""The operator's dashboard in a terminal: a client of the admin API, in a process of its own.

    source       where figures come from: a demo, the admin API, a recording
    feed         follows a source and posts what it says; the one worker
    board        all that is known and shown, owned by the app's message handlers
    drawing      pure functions from figures to lines of text
    widgets      what puts lines on the screen, and a list of any length
    screens      the seven screens with their keys
    app          ties them together

`Look` says how everything is shown: which glyphs, which language, which time zone.
"""
