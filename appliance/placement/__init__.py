"""Where a model's memory goes: what it will need, and where that fits. Pure: no I/O, clock or logging.

The seam, for whoever loads models (event loop):

    facts      of the file's header (`gguf.facts`), once per file
    correction `MemoryLedger.correction(file, spec)`: what earlier loads taught
    memory     `Memory` of the newest `Hardware` snapshot, less what was promised to models that are still loading
               (`Memory.less` with each one's `Placement.footprint`)
    loaded     every model in memory, with `pinned` and `busy` as of now

    match place(facts, spec, memory, loaded, correction=…):
        case Placement(): unload `evict` and wait for it, then send `Load(spec=placed_spec(spec, placement), …)`. After
                          `Loaded`, `taken = measured(info.memory, need, info.size_bytes, uuids)` is its footprint
                          and `MemoryLedger.note(file, spec, need, placement.tensor_split, taken)` remembers it; need is
                          `estimate(facts, spec)` without correction
        case NoRoom():    the load is refused with `sentence`; nothing was changed

A decision is only as good as its snapshot: decide and reserve without an `await` in between.
"""
