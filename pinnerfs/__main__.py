"""`python -m pinnerfs`."""

try:
    from pinnerfs.cli import main

    main()
except KeyboardInterrupt:  # before `main` handles SIGINT
    raise SystemExit(130) from None
