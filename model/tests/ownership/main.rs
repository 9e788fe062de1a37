mod hold;
mod lead;
mod walk;
#[test]
fn sound() {
    walk::every_state("hold", hold::World::sound);
    for (name, scene) in lead::SCENES {
    walk::every_state(name, || lead::World::sound(scene));
    }
}
#[test]
fn guards() {
    for guard in hold::GUARDS {
        walk::counterexample(guard, || hold::World::without(*guard));
    }
    for guard in lead::GUARDS {
        walk::counterexample(guard, || lead::World::without(*guard));
    }
}
