# The program `hv`. Its Python dependencies are those of pyproject.toml, with the extra `host`; a test compares the two.
{
  lib,
  python3Packages,
  btrfs-progs,
  cryptsetup,
  dosfstools,
  e2fsprogs,
  kmod,
  openssh,
  util-linux,
  xfsprogs,
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
      (lib.fileset.fileFilter (file: file.hasExt "py" || file.hasExt "j2" || file.hasExt "json") (root + "/installer"))
      (lib.fileset.fileFilter (file: file.hasExt "py") (root + "/iso"))
      (lib.fileset.fileFilter (file: file.hasExt "py") (root + "/hv"))
      (root + "/templates")
    ];
  };

  build-system = [ python3Packages.hatchling ];
  dependencies = with python3Packages; [
    jinja2
    libvirt
    pydantic
    pyparted
    pyudev
    rich
  ];

  # The field's own tools that the installer and the first run call.
  makeWrapperArgs = [
    "--prefix"
    "PATH"
    ":"
    (lib.makeBinPath [
      btrfs-progs
      cryptsetup
      dosfstools
      e2fsprogs
      kmod
      openssh
      util-linux
      xfsprogs
    ])
  ];

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
