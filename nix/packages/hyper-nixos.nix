# The program `hv`. Its Python dependencies are those of pyproject.toml, with the extra `host`, and `server` where that is
# wanted; a test compares the two.
{
  lib,
  python3Packages,
  installShellFiles,
  age,
  audit,
  btrfs-progs,
  coreutils,
  cryptsetup,
  dosfstools,
  e2fsprogs,
  efibootmgr,
  gnupg,
  grub2,
  iproute2,
  kbd,
  kmod,
  libfaketime,
  mkpasswd,
  mtools,
  openssh,
  osinfo-db,
  smartmontools,
  squashfsTools,
  stdenv,
  systemd,
  util-linux,
  xfsprogs,
  xorriso,
  zstd,
  # Whether `hv answers serve` works: an administrator's machine serves, a host and the live system do not.
  withServer ? false,
  # The flake that it is built from, which `hv migrate` has other hosts import. Their own package names it by itself.
  flake ? null,
}:
let
  project = (lib.importTOML ../../pyproject.toml).project;
  root = ../..;
in
python3Packages.buildPythonApplication {
  pname = project.name;
  inherit (project) version;
  pyproject = true;

  src = lib.fileset.toSource {
    inherit root;
    fileset = lib.fileset.unions [
      (root + "/pyproject.toml")
      (root + "/README.md")
      (lib.fileset.maybeMissing (root + "/LICENSE"))
      # Everything below the packages but what Python left there.
      (lib.fileset.fileFilter (file: !file.hasExt "pyc") (root + "/installer"))
      (lib.fileset.fileFilter (file: file.hasExt "py") (root + "/iso"))
      (lib.fileset.fileFilter (file: !file.hasExt "pyc") (root + "/hv"))
      (root + "/templates")
    ];
  };

  build-system = [ python3Packages.hatchling ];
  nativeBuildInputs = [ installShellFiles ];
  dependencies =
    (with python3Packages; [
      cryptography
      dnspython
      fastapi
      jinja2
      libvirt
      lxml
      merge3
      pycdlib
      pydantic
      pyparted
      pyudev
      questionary
      rich
      segno
      sqlalchemy
      tomli-w
      tomlkit
      tree-sitter
      tree-sitter-grammars.tree-sitter-nix
      urllib3
      uvicorn
    ])
    ++ lib.optionals withServer (
      with python3Packages;
      [
        fastapi
        psycopg
        sqlalchemy
        uvicorn
      ]
    );

  # The field's own tools that the installer and the first run call; Nix and QEMU are the system's.
  makeWrapperArgs = [
    "--prefix"
    "PATH"
    ":"
    (lib.makeBinPath (
      [
        age
        audit
        btrfs-progs
        coreutils
        cryptsetup
        dosfstools
        e2fsprogs
        efibootmgr
        gnupg
        iproute2
        kbd
        kmod
        libfaketime
        mkpasswd
        mtools
        openssh
        smartmontools
        squashfsTools
        systemd
        util-linux
        xfsprogs
        xorriso
        zstd
      ]
      # For a BIOS: images of hosts are made for the processor that makes them.
      ++ lib.optional stdenv.hostPlatform.isx86 grub2
    ))
    # What guests' systems want: files, which libosinfo's own tools find the same way.
    "--set-default"
    "OSINFO_SYSTEM_DIR"
    "${osinfo-db}/share/osinfo"
  ]
  ++ lib.optionals (flake != null) [
    "--set-default"
    "HYPER_NIXOS_SOURCE"
    "path:${flake}"
  ];

  postInstall = ''
    installShellCompletion --bash --name hv hv/completions/hv.bash
    installShellCompletion --fish --name hv.fish hv/completions/hv.fish
    installShellCompletion --zsh --name _hv hv/completions/_hv
    PYTHONPATH=$out/${python3Packages.python.sitePackages}:$PYTHONPATH python -m hv.manual --pages pages
    installManPage pages/*
  '';

  # The tests need a lab; the repository runs them.
  doCheck = false;
  pythonImportsCheck = [
    "hv.cli"
    "installer.render"
  ];

  meta = {
    inherit (project) description;
    license = lib.licenses.asl20;
    mainProgram = "hv";
    platforms = lib.platforms.linux;
  };
}
